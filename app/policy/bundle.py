"""Signed bundles: the rules, their tests, their data and the terms they are in force on, in one file.

A bundle is one of OPA's (openpolicyagent.org, "Bundles"): a gzipped tar with `.manifest`, `data.json`, Rego modules
and `.signatures.json`, a JSON Web Signature (RFC 7515) over the SHA-256 of every other file. The signature is ES256,
which OPA verifies too, so an auditor needs nothing of ours. What OPA hashes of JSON files is their canonical form, so
that is the form in which they are written here.
"""

import hmac
import io
import re
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from gzip import GzipFile
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Meta, Struct

from app.core.evaluating import PolicyError
from app.core.exemptions import Exemption
from app.core.policy import Mode, Pack
from app.core.standards import Standards
from app.documents import unusable
from app.errors import SettingError
from app.policy import forms
from app.policy.pack import declared_rule, in_force, is_test
from app.unreadable import UNREADABLE

ALGORITHM: Final = "ES256"
#: A bundle travels as one record through the log of the jobs.
MOST_BYTES: Final = 512 * 1024
_MOST_UNPACKED_BYTES: Final = 8 * 2**20
_MOST_FILES: Final = 1_000
_SIGNATURES: Final = ".signatures.json"
_MANIFEST: Final = ".manifest"
_DATA: Final = "data.json"
_NAME: Final = re.compile(rf"{re.escape(_MANIFEST)}|{_DATA}|rules/[A-Za-z0-9_-]+\.rego")
_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\s", re.DOTALL)


class BundleError(PolicyError):
    """A bundle is not to be trusted, or cannot be used."""


class Unsettled(BundleError):
    """It could not be said whether a bundle can be used: what was to say so did not come to an end."""


class _Terms(Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    modes: dict[str, Mode]
    fail_open: tuple[str, ...]
    exemptions: tuple[Exemption, ...]


class _Metadata(Struct, frozen=True, forbid_unknown_fields=True):
    qethics: _Terms


class _Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    revision: str
    rego_version: int
    metadata: _Metadata


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    hash: str
    algorithm: str


class _Signed(Struct, frozen=True):
    files: list[_File]


class _Signatures(Struct, frozen=True):
    signatures: list[str]


class Bundle(NamedTuple):
    """What a verified bundle holds, and the id of the key it was signed with."""

    pack: Pack
    #: File name -> Rego source.
    tests: Mapping[str, str]
    key_id: str


Keys = Mapping[str, ec.EllipticCurvePublicKey]


def read_keys(path: Path) -> Keys:
    """The public keys of a PEM file, by their id: the beginning of the SHA-256 of their DER form.

    Raises
    ------
    SettingError
        If there is none, or one is not of the curve P-256.
    """
    found: dict[str, ec.EllipticCurvePublicKey] = {}
    for block in _PEM.findall(_content(path) + b"\n"):
        try:
            key = serialization.load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SettingError(f"{path}: a key that cannot be read: {error}", _KEY_REMEDY) from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise SettingError(f"{path}: a key that is not of the curve P-256", _KEY_REMEDY)
        found[_key_id(key)] = key
    if not found:
        raise SettingError(f"{path} holds no public key", _KEY_REMEDY)
    return found


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key of a PEM file.

    Raises
    ------
    SettingError
        If there is none of the curve P-256 without a passphrase.
    """
    try:
        key = serialization.load_pem_private_key(_content(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingError(f"{path} holds no private key that can be read: {error}", _KEY_REMEDY) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SettingError(f"{path}: the key is not of the curve P-256", _KEY_REMEDY)
    return key


_KEY_REMEDY: Final = "openssl ecparam -name prime256v1 -genkey -noout makes one, openssl ec -pubout its public key"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unusable(path, "", error.strerror or str(error)) from error


def _key_id(key: ec.EllipticCurvePublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()[:16]


def write(pack: Pack, tests: Mapping[str, str], key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signed bundle.

    Parameters
    ----------
    pack, tests
        The rules, with a version of at least 1, and the modules of their tests.
    key
        What it is signed with.

    Raises
    ------
    SettingError
        If it is larger than a bundle may be.
    """
    modes: dict[str, Mode] = {name: rule.mode for name, rule in pack.rules.items() if rule.mode != "enforce"}
    fail_open = tuple(sorted(name for name, rule in pack.rules.items() if rule.fail_open))
    terms = _Terms(pack.version, modes, fail_open, pack.exemptions)
    files = {f"rules/{name}": source.encode() for name, source in {**pack.modules, **tests}.items()}
    files[_DATA] = _canonical(pack.data)
    files[_MANIFEST] = _canonical(_Manifest(pack.digest[:16], 1, _Metadata(terms)))
    listed = [_File(name, sha256(content).hexdigest(), "SHA-256") for name, content in sorted(files.items())]
    signature = jwt.PyJWS().encode(
        msgspec.json.encode(_Signed(listed)), key, algorithm=ALGORITHM, headers={"kid": _key_id(key.public_key())}
    )
    files[_SIGNATURES] = _canonical(_Signatures([signature]))
    written = _packed(files)
    if len(written) > MOST_BYTES:
        raise SettingError(
            f"the bundle has {len(written)} bytes, {MOST_BYTES} are allowed", "take out what is not used"
        )
    return written


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _packed(files: Mapping[str, bytes]) -> bytes:
    """A gzipped tar that depends on nothing but the files."""
    made = io.BytesIO()
    with (
        GzipFile(fileobj=made, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def read(data: bytes, keys: Keys) -> Bundle:
    """What a bundle holds, once its signature and every file were checked. Its own tests are not run here.

    Raises
    ------
    BundleError
        If it is damaged, not signed by one of the keys, or holds what was not signed; it says which.
    """
    with _no_surprises():
        files = _files(data)
        key_id = _verified(files, keys)
        opened = _opened(files, key_id)
        try:
            Standards(opened.pack.data)
        except ValueError as error:
            raise BundleError(f"{error}; build and sign it again, with this version") from error
        try:
            forms.check({**opened.pack.modules, **opened.tests})
        except PolicyError as error:
            raise BundleError(str(error)) from error
        return opened


@contextmanager
def _no_surprises() -> Iterator[None]:
    """Whatever a file can make a parser do is a reason to refuse it."""
    try:
        yield
    except (RecursionError, MemoryError, OverflowError, TypeError, ValueError, OSError) as error:
        raise BundleError(f"it cannot be read: {type(error).__name__}: {error}") from error


def _files(data: bytes) -> dict[str, bytes]:
    if len(data) > MOST_BYTES:
        raise BundleError(f"it has more than {MOST_BYTES} bytes")
    try:
        unzip = zlib.decompressobj(wbits=31)
        tape = unzip.decompress(data, _MOST_UNPACKED_BYTES)
        if unzip.unconsumed_tail:
            raise BundleError(f"it has more than {_MOST_UNPACKED_BYTES} bytes unpacked")
        if not unzip.eof or unzip.unused_data:
            raise BundleError("it is not whole: its end is missing, or something comes after it")
        found: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(tape), mode="r:") as tar:
            for member in tar:
                # A sparse file says itself how large it is.
                plain = member.isreg() and not member.issparse() and 0 <= member.size <= len(tape)
                if not plain or member.name in found or len(found) >= _MOST_FILES:
                    raise BundleError(f"{member.name[:100]!r} is no plain file, is there twice, or is one of too many")
                content = tar.extractfile(member)
                found[member.name] = content.read() if content is not None else b""
    except (zlib.error, tarfile.TarError, EOFError) as error:
        raise BundleError(f"it is no gzipped tar: {error}") from error
    return found


def _verified(files: Mapping[str, bytes], keys: Keys) -> str:
    """Check the signature and what it is over; the id of the key that made it."""
    if _SIGNATURES not in files:
        raise BundleError("it is not signed")
    try:
        signatures = msgspec.json.decode(files[_SIGNATURES], type=_Signatures).signatures
    except UNREADABLE as error:
        raise BundleError(f"{_SIGNATURES} cannot be read: {error}") from error
    if len(signatures) != 1:
        raise BundleError(f"it has {len(signatures)} signatures, not one")
    key_id, payload = _signed(signatures[0], keys)
    try:
        listed = msgspec.json.decode(payload, type=_Signed).files
    except UNREADABLE as error:
        raise BundleError(f"what is signed cannot be read: {error}") from error
    hashes = {file.name: file.hash for file in listed if file.algorithm == "SHA-256"}
    for name, content in files.items():
        if name == _SIGNATURES:
            continue
        if name not in hashes:
            raise BundleError(f"{name} is not signed")
        if not hmac.compare_digest(hashes.pop(name).encode(), sha256(content).hexdigest().encode()):
            raise BundleError(f"{name} is not what was signed")
    if hashes:
        raise BundleError(f"{min(hashes)} is signed and not there")
    return key_id


def _signed(token: str, keys: Keys) -> tuple[str, bytes]:
    """The id of the key that signed, and what it signed. The id a token claims is a hint, and is not followed."""
    for key_id, key in keys.items():
        try:
            return key_id, jwt.PyJWS().decode(token, key, algorithms=[ALGORITHM])
        except jwt.InvalidTokenError:
            continue
    raise BundleError("it is not signed by a key that is trusted here")


def _opened(files: Mapping[str, bytes], key_id: str) -> Bundle:
    for name in files:
        if _NAME.fullmatch(name) is None and name != _SIGNATURES:
            raise BundleError(f"{name} does not belong in a bundle")
    try:
        manifest = msgspec.json.decode(files[_MANIFEST], type=_Manifest)
        data = msgspec.json.decode(files[_DATA], type=dict[str, Any])
        sources = {
            name.removeprefix("rules/"): content.decode()
            for name, content in files.items()
            if name.startswith("rules/")
        }
    except KeyError as error:
        raise BundleError(f"{error.args[0]} is missing") from error
    except UNREADABLE as error:
        raise BundleError(f"it cannot be read: {error}") from error
    terms = manifest.metadata.qethics
    modules = {name: source for name, source in sources.items() if not is_test(name)}
    try:
        declared = [declared_rule(Path(name), source) for name, source in modules.items()]
    except SettingError as error:
        raise BundleError(error.what) from error
    rules = {rule.name: in_force(rule, terms.modes, terms.fail_open) for rule in declared if rule is not None}
    _check_exemptions(terms.exemptions, rules)
    pack = Pack(modules, rules, data, terms.version, terms.exemptions)
    if pack.digest[:16] != manifest.revision:
        raise BundleError(f"its revision is {pack.digest[:16]}, its manifest says {manifest.revision}")
    return Bundle(pack, {name: source for name, source in sources.items() if is_test(name)}, key_id)


def _check_exemptions(exemptions: Sequence[Exemption], rules: Collection[str]) -> None:
    for exemption in exemptions:
        if (wrong := exemption.wrong()) is not None:
            raise BundleError(f"exemption {exemption.id}: {' '.join(wrong)}")
        if exemption.rule not in rules:
            raise BundleError(f"exemption {exemption.id}: there is no rule {exemption.rule}")
    if len({exemption.id for exemption in exemptions}) != len(exemptions):
        raise BundleError("an exemption is there twice")
