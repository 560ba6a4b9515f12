"""Record batches as brokers hand them out, whatever is in them.

aiokafka ends a consumer with an error when a batch does not parse, and asks for the same batch again at the next start:
one batch stops a partition for good. `install` has every consumer of the process read by `TolerantRecords` instead:

* A batch, or what is left of one, that cannot be read is handed on as an `Unreadable`: its bytes, the offsets that it
  covers, and why. The records before it are handed on as they are, and reading goes on after it.
* Header names that are no UTF-8 are read with what is no UTF-8 escaped.
* What a batch becomes decompressed is bounded (`app.kafka_codecs`), and so is what one fetch of a partition becomes:
  what is beyond it is fetched again.

Format: https://kafka.apache.org/documentation/#recordbatch (magic 2), and the older message sets (magic 0 and 1).
"""

import logging
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from app import kafka_codecs
from app.kafka_codecs import MAX_BATCH_BYTES, BatchTooLarge

log = logging.getLogger("qethics.batches")

#: Base offset and length; the length counts what comes after it.
_OVERHEAD: Final = struct.Struct(">qi")
_MAGIC_PLACE: Final = 16
_HEADER: Final = DefaultRecordBase.HEADER_STRUCT
_WRONG_CHECKSUM: Final = "its checksum is wrong"
_CODECS: Final = {
    DefaultRecordBase.CODEC_GZIP: kafka_codecs.gzip_decode,
    DefaultRecordBase.CODEC_SNAPPY: kafka_codecs.snappy_decode,
    DefaultRecordBase.CODEC_LZ4: kafka_codecs.lz4_decode,
    DefaultRecordBase.CODEC_ZSTD: kafka_codecs.zstd_decode,
}


class Unreadable(NamedTuple):
    """The offsets from `offset` to below `next`, whose records cannot be read, in the place of a record.

    `value` is the batch as it is in the log, header and all; `bomb` says that it would become too large.
    """

    topic: str
    partition: int
    offset: int
    next: int
    timestamp: int
    value: bytes
    detail: str
    bomb: bool
    timestamp_type: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    checksum: None = None


class ReadRecord(NamedTuple):
    """A record that was read here, not by aiokafka's parser."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class FetchedBatches(MemoryRecords):
    """The batches of one fetch of one partition, with the bytes they came in."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data

    def raw(self, index: int) -> tuple[bytes, int | None]:
        """The bytes of a batch, and the offset that the one after it begins at, where there is one."""
        place = 0
        for _ in range(index):
            place += _size(self.data, place)
        end = place + _size(self.data, place)
        after = int(_OVERHEAD.unpack_from(self.data, end)[0]) if end + _OVERHEAD.size <= len(self.data) else None
        return bytes(self.data[place:end]), after


class CutShort(FetchedBatches):
    """What came is not even one whole batch: brokers hand out whole ones, so a length in it is wrong."""

    _told = False

    def has_next(self) -> bool:
        """Whether it was not told yet."""
        return not self._told

    def next_batch(self) -> Any:
        """Raise `CorruptRecordException`, once."""
        self._told = True
        raise CorruptRecordException("it is cut short")


def fetched_batches(data: bytes) -> FetchedBatches:
    """The batches of one fetch of one partition."""
    batches = FetchedBatches(data)
    return batches if batches.has_next() or not data else CutShort(data)


def _size(data: bytes, place: int) -> int:
    """The size of the batch that begins at a place, or of what there is of it."""
    rest = len(data) - place
    if rest < _OVERHEAD.size:
        return rest
    return min(rest, max(_OVERHEAD.size, int(_OVERHEAD.unpack_from(data, place)[1]) + _OVERHEAD.size))


class TolerantRecords(fetcher.PartitionRecords):
    """Fetched records of one partition; in the place of what cannot be read there is an `Unreadable`."""

    def _unpack_records(self) -> Iterator[Any]:
        batches = cast(FetchedBatches, self._records)
        index, self._room = -1, MAX_BATCH_BYTES
        # What is left when there is no more room is fetched again: the position is that of what was handed on.
        while self._room > 0 and batches.has_next():
            index += 1
            begin = place = self.next_fetch_offset
            try:
                batch = self._opened(batches)
                end = batch.next_offset
                if not (batch.is_control_batch or batch.is_transactional) or not self._passes_over(batch):
                    for record in batch:
                        offset = record.offset
                        if place <= offset < end:
                            self.next_fetch_offset = place = offset + 1
                            yield self._consumer_record(self._tp, record)
                        elif place != begin or not _base(batch) <= offset < begin:
                            raise CorruptRecordException(f"a record of it says that it is at offset {offset}")
                if end <= begin and end <= _base(batch):
                    raise CorruptRecordException("it ends before it begins")
                # The last offset of a batch stays when compaction removes its record.
                self.next_fetch_offset = max(self.next_fetch_offset, end)
            except MemoryError:
                raise
            except UnicodeDecodeError:  # the name of a header; the parser takes UTF-8 alone
                yield from self._leniently(*batches.raw(index), begin)
            except Exception as error:
                yield from self._unreadable(error, *batches.raw(index), begin)

    def _opened(self, batches: FetchedBatches) -> Any:
        """The next batch, its checksum looked at; decompressed, if it is to be."""
        batch = batches.next_batch()
        if self._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(_WRONG_CHECKSUM)
        if getattr(batch, "compression_type", 0) and not batch.is_control_batch:
            decoded = kafka_codecs.decoded_bytes()
            iter(batch)
            self._room -= kafka_codecs.decoded_bytes() - decoded
        return batch

    def _passes_over(self, batch: Any) -> bool:
        """Whether a batch holds nothing for readers: a marker of a transaction, or what one took back."""
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)

    def _leniently(self, raw: bytes, after: int | None, begin: int) -> Iterator[Any]:
        try:
            records = read_leniently(raw)
        except Exception as error:
            yield from self._unreadable(error, raw, after, begin)
            return
        for record in records:
            if record.offset >= self.next_fetch_offset:
                self.next_fetch_offset = record.offset + 1
                yield self._consumer_record(self._tp, record)
        self.next_fetch_offset = max(self.next_fetch_offset, _end(raw, after, trusted=True))

    def _unreadable(self, error: Exception, raw: bytes, after: int | None, begin: int) -> Iterator[Unreadable]:
        """What is left of a batch that was begun to be read at `begin`; nothing, if all its offsets were read."""
        end = _end(raw, after, trusted=_WRONG_CHECKSUM not in str(error))
        if begin < self.next_fetch_offset >= end:
            log.warning("%s/%d: a batch holds more than its records: %s", self._tp.topic, self._tp.partition, error)
            return
        begin = self.next_fetch_offset
        self.next_fetch_offset = max(begin + 1, end)
        base = int(_OVERHEAD.unpack_from(raw)[0]) if len(raw) >= _OVERHEAD.size else begin
        timestamp = int(_HEADER.unpack_from(raw)[8]) if len(raw) >= _HEADER.size else 0
        yield Unreadable(
            self._tp.topic,
            self._tp.partition,
            base if begin < base < self.next_fetch_offset else begin,
            self.next_fetch_offset,
            timestamp,
            raw,
            f"{type(error).__name__}: {error}",
            isinstance(error, BatchTooLarge),
        )


def _base(batch: Any) -> int:
    """The first offset of a batch; those of older formats do not say."""
    return int(getattr(batch, "base_offset", 0))


def _end(raw: bytes, after: int | None, *, trusted: bool) -> int:
    """The offset after a batch: that of the next one where there is one, else what its header says.

    Where the checksum is wrong, the header is believed only if it agrees with itself.
    """
    if after is not None:
        return after
    if len(raw) < _OVERHEAD.size:
        return 0
    base = int(_OVERHEAD.unpack_from(raw)[0])
    if len(raw) < _HEADER.size or raw[_MAGIC_PLACE] < 2:
        return base + 1
    header = _HEADER.unpack_from(raw)
    delta, count = header[6], header[12]
    return int(base + delta + 1) if delta >= 0 and (trusted or delta + 1 == count) else base + 1


def read_leniently(raw: bytes) -> list[ReadRecord]:
    """Read a batch of magic 2 whose headers may have names that are no UTF-8; those bytes come out as `\\xNN`.

    Raises
    ------
    BatchTooLarge
        If it becomes too large.
    ValueError, IndexError, CorruptRecordException
        If it is no such batch.
    """
    header = _HEADER.unpack_from(raw)
    base, attributes, delta, count = header[0], header[5], header[6], header[12]
    codec = attributes & DefaultRecordBase.CODEC_MASK
    body = raw[_HEADER.size :]
    data = bytearray(_CODECS[codec](body) if codec else body)
    of_log = bool(attributes & DefaultRecordBase.TIMESTAMP_TYPE_MASK)
    first, place, expected = header[8] if of_log else header[7], 0, base
    records = []
    for _ in range(count):
        (offset, later, key, value, headers), place = _record(data, place)
        if not expected <= base + offset <= base + delta:
            raise CorruptRecordException(f"a record of it says that it is at offset {base + offset}")
        expected = base + offset + 1
        records.append(ReadRecord(base + offset, first + (0 if of_log else later), int(of_log), key, value, headers))
    if place != len(data):
        raise CorruptRecordException("more bytes than records")
    return records


_Fields = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def _record(data: bytearray, place: int) -> tuple[_Fields, int]:
    """Offset and time from those of the batch, key, value and headers; and where the next record begins."""
    size, place = decode_varint(data, place)
    end = place + size
    later, place = decode_varint(data, place + 1)  # attributes are not used
    offset, place = decode_varint(data, place)
    key, place = _bytes(data, place)
    value, place = _bytes(data, place)
    headers: list[tuple[str, bytes | None]] = []
    count, place = decode_varint(data, place)
    for _ in range(count):
        name, place = _bytes(data, place)
        if name is None:
            raise CorruptRecordException("a header without a name")
        text, place = _bytes(data, place)
        headers.append((name.decode(errors="backslashreplace"), text))
    if place != end:
        raise CorruptRecordException(f"a record of {size} bytes that takes {size + place - end}")
    return (offset, later, key, value, headers), place


def _bytes(data: bytearray, place: int) -> tuple[bytes | None, int]:
    size, place = decode_varint(data, place)
    if size < 0:
        return None, place
    if place + size > len(data):
        raise CorruptRecordException("a record goes beyond its batch")
    return bytes(data[place : place + size]), place + size


def install() -> None:
    """Have every consumer of this process read like this; doing it again changes nothing."""
    kafka_codecs.install()
    vars(fetcher)["MemoryRecords"] = fetched_batches
    if not issubclass(fetcher.PartitionRecords, TolerantRecords):
        vars(fetcher)["PartitionRecords"] = TolerantRecords
