"""What brokers hand out, whatever is in it: what can be read is, what cannot is handed on, nothing ends a reader."""

import random
import struct

import pytest
from aiokafka.structs import TopicPartition
from batches import CHECKED_FROM, CODECS, batch, checked, framed, read_all, record, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from app import kafka_batches, kafka_codecs
from app.kafka_batches import TolerantRecords, Unreadable, fetched_batches
from app.stream.transport import LeanRecords

kafka_batches.install()

READERS = pytest.mark.parametrize("reader", [TolerantRecords, LeanRecords])


def read(data, reader=LeanRecords):
    return read_all(data, reader, fetched_batches)


def good(base, *values, codec="none"):
    return batch(
        b"".join(map(record, range(len(values)), [b"k"] * len(values), values)), len(values), base=base, codec=codec
    )


def values(found):
    return [None if isinstance(one, Unreadable) else one.value for one in found]


@READERS
@pytest.mark.parametrize("codec", CODECS)
def test_good_batches_are_read_whole(reader, codec):
    log = good(0, b"a", b"b", codec=codec) + good(2, b"c", codec=codec)
    assert values(read(log, reader)) == [b"a", b"b", b"c"]


@READERS
@pytest.mark.parametrize("codec", CODECS)
def test_a_header_name_that_is_no_utf8_is_escaped_and_its_neighbours_are_taken(reader, codec):
    odd = record(1, value=b"odd", headers=[(b"\xff\xfe", b"x"), (b"plain", None)])
    middle = batch(record(0, value=b"before") + odd + record(2, value=b"after"), 3, base=5, codec=codec)
    found = read(good(0, b"a") + middle + good(8, b"z"), reader)
    assert values(found) == [b"a", b"before", b"odd", b"after", b"z"]
    assert list(found[2].headers) == [("\\xff\\xfe", b"x"), ("plain", None)]
    assert [one.offset for one in found] == [0, 5, 6, 7, 8]


BROKEN = {
    "codec 5": framed(record(0), 1, base=1, attributes=5),
    "gzip garbage": framed(b"garbage", 1, base=1, attributes=1),
    "snappy garbage": framed(b"garbage", 1, base=1, attributes=2),
    "lz4 garbage": framed(b"garbage", 1, base=1, attributes=3),
    "zstd garbage": framed(b"garbage", 1, base=1, attributes=4),
    "wrong checksum": good(1, b"x")[:-1] + b"!",
    "a record longer than the batch": framed(varint(5000) + record(0)[2:], 1, base=1),
    "no record at all": framed(b"", 1, base=1),
    "a record before the batch": framed(record(-1), 1, base=1),
    "a record after the batch": framed(record(7), 1, base=1),
    "a control batch with another key": framed(record(0, key=b"?"), 1, base=1, attributes=0x30),
    "header name of length -2, and not UTF-8": framed(
        record(0, headers=[(b"\xff", b"")])[:-3] + varint(-2) + b"\0", 1, base=1
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_batch_that_cannot_be_read_is_handed_on_with_its_bytes_and_reading_goes_on(name):
    found = read(good(0, b"a") + BROKEN[name] + good(2, b"z"))
    if name == "a control batch with another key":  # a marker that nobody knows marks nothing
        found = [one for one in found if not isinstance(one, Unreadable)] or found
        assert values(found) == [b"a", b"z"]
        return
    assert values(found) == [b"a", None, b"z"]
    assert (found[1].offset, found[1].next, found[1].value) == (1, 2, BROKEN[name])


def test_the_records_before_one_that_cannot_be_read_are_taken():
    middle = framed(record(0, value=b"b") + record(1, value=b"c") + record(1, value=b"twice") + record(3), 4, base=1)
    found = read(good(0, b"a") + middle + good(5, b"z"))
    assert values(found) == [b"a", b"b", b"c", None, b"z"]
    assert (found[3].offset, found[3].next) == (3, 5)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_becomes_too_large_is_handed_on_compressed(codec, monkeypatch):
    huge = b"".join(record(number, value=b" " * 2**20) for number in range(17))
    bomb = batch(huge, 17, base=1, codec=codec)
    found = read(good(0, b"a") + bomb + good(18, b"z"))
    assert values(found) == [b"a", None, b"z"]
    assert found[1].bomb
    assert (found[1].offset, found[1].next, found[1].value) == (1, 18, bomb)


def test_one_fetch_is_bounded_however_many_batches_it_has():
    large = [batch(record(0, value=b" " * 10_000_000), 1, base=base, codec="zstd") for base in range(9)]
    fetched = fetched_batches(b"".join(large))
    reader = LeanRecords(TopicPartition("jobs", 0), fetched, None, 0, None, None, True, 1)
    assert sum(len(one.value) for one in reader) <= 2 * kafka_codecs.MAX_BATCH_BYTES
    assert len(read(b"".join(large))) == 9


def test_bytes_after_the_last_record_take_no_offset_from_the_batch_after_it():
    assert values(read(good(0, b"a") + framed(record(0) + b"more", 1, base=1) + good(2, b"z"))) == [b"a", b"{}", b"z"]


def test_what_is_not_one_whole_batch_is_handed_on():
    found = read(good(0, b"a")[:40])
    assert [(one.offset, one.next) for one in found] == [(0, 1)]


headers = st.lists(st.tuples(st.binary(max_size=6), st.none() | st.binary(max_size=6)), max_size=3)
contents = st.tuples(st.none() | st.binary(max_size=8), st.none() | st.binary(max_size=20), headers)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CODECS)), st.lists(contents, min_size=1, max_size=4)), min_size=1, max_size=5
    ),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_whatever_a_batch_holds_every_offset_is_accounted_for(batches, seed, sealed):
    """One batch is mutated; those around it are read whole, and it comes out as records, or as bytes, or both."""
    chance = random.Random(seed)
    log, base, expected = [], 0, {}
    hurt = chance.randrange(len(batches))
    for number, (codec, of_batch) in enumerate(batches):
        body = b"".join(record(delta, *content) for delta, content in enumerate(of_batch))
        raw = batch(body, len(of_batch), base=base, codec=codec)
        if number == hurt:
            raw = _mutated(raw, chance, sealed=sealed)
        else:
            expected |= {base + delta: value for delta, (_, value, _) in enumerate(of_batch)}
        log.append(raw)
        base += len(of_batch)
    found = read(b"".join(log))
    assert {one.offset: one.value for one in found if one.offset in expected} == expected
    place = 0
    for one in found:
        assert place <= one.offset
        place = one.next if isinstance(one, Unreadable) else one.offset + 1


def _mutated(raw, chance, *, sealed):
    """A batch with some bytes changed, its place in the log kept: brokers write that; sealed ones have the checksum."""
    changed = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(CHECKED_FROM, len(raw))] = chance.choice(
            [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
        )
    struct.pack_into(">i", changed, 23, struct.unpack_from(">i", raw, 23)[0])  # the last offset: brokers count by it
    changed[22] &= ~0x20 & 0xFF  # a control batch is passed over
    return checked(bytes(changed)) if sealed else bytes(changed)
