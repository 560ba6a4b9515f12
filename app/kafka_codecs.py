"""Decompression with a bound: what a small batch may become is decided before it has become it.

A batch of 132 kB may hold 3 GB: zstd, gzip and LZ4 shrink what repeats by a thousand and more. aiokafka decompresses
whatever comes. `install` puts these functions in the place of its own, for every consumer of the process.

The formats: RFC 1952 (gzip), RFC 8878 (zstd), the LZ4 frame format, and Snappy both bare and in the framing of the
xerial library, which is what Kafka's Java client writes.
"""

import mmap
import struct
import threading
from collections.abc import Callable
from typing import Any, Final

import cramjam
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as fast_default_records
from aiokafka.record._crecords import legacy_records as fast_legacy_records

#: The most that the records of one batch may be, decompressed. Clients bound a batch before they compress it: Java's by
#: `max.request.size` and librdkafka by `message.max.bytes`, both about 1 MiB unless raised; a record may be 4 MiB here.
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
_XERIAL: Final = b"\x82SNAPPY\x00"
#: Magic, version, compatible version.
_XERIAL_HEADER_BYTES: Final = 16
#: What the library says when the place it is given is full.
_FULL: Final = "whole buffer"


class BatchTooLarge(ValueError):
    """The records of a batch are more than may be, decompressed."""

    def __init__(self) -> None:
        super().__init__(f"its records are more than {MAX_BATCH_BYTES:,} bytes once decompressed")


class _Scratch(threading.local):
    """A place to decompress into, one for each thread; memory that is never written to is never taken."""

    def __init__(self) -> None:
        self.buffer = mmap.mmap(-1, MAX_BATCH_BYTES)
        #: Bytes that this thread decompressed so far.
        self.decoded = 0


_SCRATCH: Final = _Scratch()


def _into_scratch(decompress_into: Callable[[Any, Any], int]) -> Callable[[Any], bytes]:
    def decode(payload: Any) -> bytes:
        buffer = _SCRATCH.buffer
        try:
            size = decompress_into(payload, buffer)
        except cramjam.DecompressionError as error:
            if _FULL in str(error):
                raise BatchTooLarge from error
            raise
        _SCRATCH.decoded += size
        return bytes(memoryview(buffer)[:size])

    return decode


gzip_decode: Final = _into_scratch(cramjam.gzip.decompress_into)
lz4_decode: Final = _into_scratch(cramjam.lz4.decompress_into)
zstd_decode: Final = _into_scratch(cramjam.zstd.decompress_into)


def snappy_decode(payload: Any) -> bytes:
    """Decompress Snappy, bare or in xerial's framing.

    Raises
    ------
    BatchTooLarge
        If it says that it becomes more than `MAX_BATCH_BYTES`; each block begins with what it becomes.
    ValueError, cramjam.DecompressionError
        If it is no Snappy.
    """
    found = memoryview(payload)
    if bytes(found[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(found, MAX_BATCH_BYTES)
    blocks = []
    room, place = MAX_BATCH_BYTES, _XERIAL_HEADER_BYTES
    while place < len(found):
        if place + 4 > len(found):
            raise ValueError("a Snappy block is cut short")
        (size,) = struct.unpack_from(">i", found, place)
        place += 4
        if not 0 < size <= len(found) - place:
            raise ValueError(f"a Snappy block of {size} bytes")
        blocks.append(_snappy_block(found[place : place + size], room))
        room -= len(blocks[-1])
        place += size
    return b"".join(blocks)


def _snappy_block(block: memoryview, room: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > room:
        raise BatchTooLarge
    decoded = bytes(cramjam.snappy.decompress_raw(block))
    _SCRATCH.decoded += len(decoded)
    return decoded


def decoded_bytes() -> int:
    """How much this thread has decompressed so far."""
    return _SCRATCH.decoded


def install() -> None:
    """Have aiokafka decompress by these functions; doing it again changes nothing."""
    for module in (default_records, legacy_records, fast_default_records, fast_legacy_records):
        for decode in ("gzip_decode", "snappy_decode", "lz4_decode", "zstd_decode"):
            if decode in vars(module):
                vars(module)[decode] = globals()[decode]
