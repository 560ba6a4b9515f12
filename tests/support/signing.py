"""Bundles made by a user: keys of OpenSSL, `qethics policy build`, and what somebody may do to a bundle."""

import gzip
import io
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.policy import bundle
from app.policy.pack import load_pack, load_tests


class KeyPair(NamedTuple):
    private: Path
    public: Path


def key_pair(directory, name="key", curve="prime256v1"):
    """A key pair as the documentation says to make one."""
    pair = KeyPair(directory / f"{name}.pem", directory / f"{name}.pub")
    subprocess.run(["openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", pair.private], check=True)
    command = ["openssl", "ec", "-in", pair.private, "-pubout", "-out", pair.public]
    subprocess.run(command, check=True, capture_output=True)
    return pair


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
