"""Record batches as bytes, good ones and such as no client would write."""

import struct

import aiokafka.codec
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import TopicPartition

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
CRC_PLACE, CHECKED_FROM = 17, 21


def varint(number: int) -> bytes:
    """A number as records have it (zigzag)."""
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def sized(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def record(delta: int, key=b"k", value=b"{}", headers=(), later=0) -> bytes:
    """A record of a batch, `delta` offsets after its first."""
    body = b"\0" + varint(later) + varint(delta) + sized(key) + sized(value) + varint(len(headers))
    body += b"".join(sized(name) + sized(text) for name, text in headers)
    return varint(len(body)) + body


def batch(records: bytes, count: int, *, base=0, codec="none", at_ms=1_795_953_600_000, attributes=0) -> bytes:
    """A batch of `count` records of which `records` are the bytes, compressed here."""
    body = getattr(aiokafka.codec, f"{codec}_encode")(records) if codec != "none" else records
    return framed(body, count, base=base, attributes=attributes | CODECS[codec], at_ms=at_ms)


def framed(body: bytes, count: int, *, base=0, attributes=0, at_ms=1_795_953_600_000) -> bytes:
    """A batch around a body that is as it is in the log, compressed already if it is to be."""
    size = len(body) + DefaultRecordBase.HEADER_STRUCT.size - 12
    header = (base, size, 0, 2, 0, attributes, count - 1, at_ms, at_ms, -1, -1, -1, count)
    return checked(DefaultRecordBase.HEADER_STRUCT.pack(*header) + body)


def checked(raw: bytes) -> bytes:
    """A batch with the checksum that its content has."""
    return raw[:CRC_PLACE] + struct.pack(">I", calc_crc32c(raw[CHECKED_FROM:])) + raw[CHECKED_FROM:]


class Bytes:
    """A batch that is already bytes, as a producer of aiokafka takes one."""

    def __init__(self, raw: bytes, count: int):
        self._raw, self._count = raw, count

    def close(self):
        """It is closed."""

    def closed(self):
        return True

    def _build(self):
        return self._raw

    def size(self):
        return len(self._raw)

    def record_count(self):
        return self._count


async def send_raw(producer, topic: str, partition: int, raw: bytes, count: int):
    """Write a batch as it is; returns where it stands."""
    return await (await producer.send_batch(Bytes(raw, count), topic, partition=partition))


def read_all(data: bytes, records_class, fetched_class, *, at=0, isolation_level=1):
    """What a consumer is given of a log, fetch after fetch, from an offset on."""
    found, limit = [], 0
    while limit < 10_000:
        limit += 1
        rest = _from(data, at)
        if not rest:
            return found
        fetched = fetched_class(rest)
        if not fetched.has_next():
            return found
        reader = records_class(TopicPartition("jobs", 0), fetched, None, at, None, None, True, isolation_level)
        found += list(reader)
        assert reader.next_fetch_offset > at, "it gets on"
        at = reader.next_fetch_offset
    raise AssertionError("it does not end")


def _from(data: bytes, at: int) -> bytes:
    """The log from the batch on that an offset is in, as a broker would hand it out."""
    place = 0
    while place + 27 <= len(data):
        base, size = struct.unpack_from(">qi", data, place)
        (delta,) = struct.unpack_from(">i", data, place + 23)
        following = place + 12 + size
        ends = struct.unpack_from(">q", data, following)[0] if following + 8 <= len(data) else base + max(delta, 0) + 1
        if ends > at:
            return data[place:]
        place = following
    return b""
