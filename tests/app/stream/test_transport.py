"""What joins and what does not: delivery by expected offset."""

import pytest
from faust.types import TP
from records import Record

from app.stream.transport import BatchConsumer

PARTITION = TP("jobs", 0)


@pytest.fixture
def consumer():
    made = BatchConsumer.__new__(BatchConsumer)
    made._epoch = 3
    made._doubted = {}
    made._bases = {}
    return made


def run(*offsets):
    return [Record(offset, 0, None, b"{}") for offset in offsets]


def joining(consumer, offsets, expected, epoch=3):
    return [record.offset for record in consumer._joining(PARTITION, run(*offsets), expected, epoch)]


def test_what_begins_where_the_last_one_ended_is_delivered(consumer):
    assert joining(consumer, [7, 8, 9], 7) == [7, 8, 9]


def test_a_hole_is_believed_only_when_it_is_seen_again(consumer):
    assert joining(consumer, [9, 10], 7) == []
    assert joining(consumer, [9, 10], 7) == [9, 10]


def test_what_was_not_yet_to_be_seen_is_not_lost(consumer):
    assert joining(consumer, [9, 10], 7) == []
    assert joining(consumer, [7, 8, 9, 10], 7) == [7, 8, 9, 10]


def test_what_comes_before_a_hole_inside_is_delivered_at_once(consumer):
    assert joining(consumer, [7, 8, 11], 7) == [7, 8]
    # The hole has been seen once, from before; from its edge it is seen again.
    assert joining(consumer, [11, 12], 9) == [11, 12]


@pytest.mark.parametrize("offsets", [[5, 6], [9, 10]])
def test_a_fetch_from_a_place_that_has_been_left_is_not_delivered_however_often(consumer, offsets):
    for _ in range(3):
        assert joining(consumer, offsets, 7, epoch=2) == []


def test_a_place_behind_is_never_delivered_again(consumer):
    for _ in range(3):
        assert joining(consumer, [5, 6], 7) == []
