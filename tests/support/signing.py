"""Bundles as a user makes them, their keys, and what somebody may do to a bundle."""

import gzip
import io
import tarfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.policy import bundle
from app.policy.pack import load_pack, load_tests

_P256 = ec.SECP256R1()


class KeyPair(NamedTuple):
    private: Path
    public: Path


def key_pair(directory, name="key", curve=_P256):
    """A key pair in the forms that OpenSSL writes, as the documentation says to make one."""
    pair = KeyPair(directory / f"{name}.pem", directory / f"{name}.pub")
    key = ec.generate_private_key(curve)
    pair.private.write_bytes(_private(key))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pair.public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return pair


def self_signed(key_path, certificate_path):
    """A certificate for 127.0.0.1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_path.write_bytes(_private(key))
    certificate_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _private(key):
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def built(policies, pair, version):
    """A bundle of a policies directory."""
    return bundle.write(load_pack(policies, version), load_tests(policies), bundle.read_private_key(pair.private))


def unpacked(data):
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def packed(files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files if isinstance(files, list) else files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(made.getvalue())


def changed(data, **files):
    """A bundle with some of its files replaced; None takes one out."""
    found = unpacked(data)
    for name, content in files.items():
        found[name] = content
    return packed({name: content for name, content in found.items() if content is not None})


def edited(data, name, edit):
    """A bundle with a JSON file of it edited."""
    found = unpacked(data)
    value = msgspec.json.decode(found[name])
    edit(value)
    return packed({**found, name: msgspec.json.encode(value, order="sorted")})
