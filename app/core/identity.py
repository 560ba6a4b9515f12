"""Names derived from content: stable over processes, machines and replays."""

import re
from functools import lru_cache
from hashlib import blake2b

from xxhash import xxh3_64_digest, xxh3_64_intdigest


def outcome_id(kind: str, *cause: object) -> str:
    """The id of an outcome: 32 hexadecimal digits, a pure function of what caused it.

    A replay after a crash concludes the same outcomes from the same causes, so it writes the same ids, and whoever
    reads the topic may drop repeats.

    Parameters
    ----------
    kind
        What was concluded, e.g. ``violation``.
    cause
        What it follows from: a Kafka position, a run id. Where a name from outside contains the separator, the parts
        are escaped, so that no two causes have one id.
    """
    parts = (kind, *map(str, cause))
    text = "\x1f".join(parts)
    if text.count("\x1f") != len(cause):
        text = "\x1e" + "\x1f".join(part.replace("\\", "\\\\").replace("\x1f", "\\s") for part in parts)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def fingerprint8(identifier: str) -> bytes:
    """Eight bytes that stand for an event id inside one run.

    XXH3-64. A run has tens of events, so two ids of one run share a fingerprint with probability below 1e-15.
    """
    return xxh3_64_digest(identifier.encode())


def event_mark(topic: str, producer: str, event_id: str) -> bytes:
    """Return eight bytes that stand for an event inside one run.

    An event is its source and its id together (CloudEvents 1.0.2, "id"); a producer that writes to two topics has two
    sources, as how their logs are interleaved must not decide which of two events counts.
    """
    return xxh3_64_digest(event_id, _source(topic, producer))


@lru_cache(maxsize=16_384)
def _source(topic: str, producer: str) -> int:
    """Return the seed of the marks of one source."""
    return xxh3_64_intdigest(f"{topic}/{producer}")


def content_mark(content: bytes) -> bytes:
    """Return four bytes that stand for what an event says; of two different ones, one in four thousand millions."""
    return xxh3_64_digest(content)[:4]


def fingerprint8_of(*fingerprints: bytes) -> bytes:
    """Eight bytes that stand for several fingerprints together: an event is unique within its run alone."""
    return xxh3_64_digest(b"".join(fingerprints))


_SHA256 = re.compile(r"sha256:([0-9a-f]{64})\Z")


def packed_digest(digest: str | None) -> bytes | str | None:
    """A SHA-256 as its 32 bytes; anything else as it is."""
    found = _SHA256.match(digest) if digest is not None else None
    return digest if found is None else bytes.fromhex(found[1])


def unpacked_digest(digest: bytes | str | None) -> str | None:
    """What `packed_digest` was given."""
    return f"sha256:{digest.hex()}" if isinstance(digest, bytes) else digest


def bucket(key: str, buckets: int) -> int:
    """The bucket (0 <= bucket < `buckets`) of an internal key such as a stream."""
    return xxh3_64_intdigest(key.encode()) % buckets
