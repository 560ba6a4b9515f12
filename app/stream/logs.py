"""Whether a log is still the one that was read.

A topic can be deleted and made again, a log truncated after an unclean election, a cluster restored from another: the
position that we hold then means nothing, and past it other records may stand. So a record that was read is remembered
with its position, and now and then looked at again.
"""

import asyncio
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from faust.types import TP
from msgspec import Meta, Struct

from app.kafka_batches import Unreadable

#: How long a broker may take to hand out a record that was there. A replica that has just become the leader may take
#: some seconds until it shows all that it has.
_PATIENCE_SECONDS: Final = 5.0
_POLL_MS: Final = 100


class Mark(Struct, frozen=True):
    """A record that was read: where it stands, and what it is known again by; without a digest any record will do."""

    offset: Annotated[int, Meta(ge=0)]
    timestamp: int = 0
    digest: str = ""

    @classmethod
    def of(cls, record: Any, offset: int) -> "Mark":
        """The mark of a record that stands at an offset."""
        return cls(offset, record.timestamp, _digest(record))

    def difference(self, record: Any) -> str | None:
        """How a record that was found in its place, or behind it, shows that the log is another; None if it does not.

        That there is none in its place shows nothing: compaction may have removed it.
        """
        if not self.digest or record.offset != self.offset or isinstance(record, Unreadable):
            return None
        if (record.timestamp, _digest(record)) == (self.timestamp, self.digest):
            return None
        return f"the record at {self.offset} is another than the one that was read there"


def _digest(record: Any) -> str:
    key, value = record.key, record.value
    sizes = f"{-1 if key is None else len(key)},{-1 if value is None else len(value)}:"
    return sha256(sizes.encode() + (key or b"") + (value or b"")).hexdigest()[:32]


class LogReader:
    """Looks single records up.

    Parameters
    ----------
    consumer
        Started; outside any group, with `auto_offset_reset="none"`. Used for nothing else.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._looking = asyncio.Lock()

    async def replaced(self, marks: Mapping[TP, Mark]) -> dict[TP, str]:
        """The partitions whose log is another than the one that was read, with how that shows.

        Parameters
        ----------
        marks
            A record that was read, for each partition. One that its retention or compaction has removed says nothing,
            nor does a broker that does not answer.

        Raises
        ------
        aiokafka.errors.KafkaError, TimeoutError
            If a broker refuses.
        """
        if not marks:
            return {}
        async with self._looking:
            wanted = {TopicPartition(tp.topic, tp.partition): mark for tp, mark in marks.items()}
            self._consumer.assign(list(wanted))
            for tp, mark in wanted.items():
                self._consumer.seek(tp, mark.offset)
            try:
                return {TP(*tp): why for tp, why in (await self._look(wanted)).items()}
            finally:
                self._consumer.pause(*self._consumer.assignment())  # it fetches on of its own accord

    async def _look(self, wanted: dict[TopicPartition, Mark]) -> dict[TopicPartition, str]:
        consumer, found = self._consumer, dict[TopicPartition, str]()
        outside: dict[TopicPartition, Mark] = {}
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while wanted and asyncio.get_running_loop().time() < deadline:
            try:
                fetched = await consumer.getmany(*wanted, timeout_ms=_POLL_MS)
            except OffsetOutOfRangeError as error:
                for tp in error.args[0]:
                    outside[tp] = wanted.pop(tp)
                    consumer.pause(tp)
                continue
            found |= {tp: why for tp, records in fetched.items() if (why := wanted[tp].difference(records[0]))}
            for tp in [tp for tp, mark in wanted.items() if await consumer.position(tp) > mark.offset]:
                # It was seen; or compaction has left none in its place, and what is behind it came.
                del wanted[tp]
                consumer.pause(tp)
        for tp, mark in wanted.items():
            end = consumer.highwater(tp)
            if end is not None and end <= mark.offset:
                found[tp] = f"it ends at {end}, and what was at {mark.offset} was read"
        return found | await self._cut_off(outside)

    async def _cut_off(self, outside: dict[TopicPartition, Mark]) -> dict[TopicPartition, str]:
        """Of the marks that are outside of their logs: those after the end, not those before the beginning."""
        if not outside:
            return {}
        begins = await asyncio.wait_for(self._consumer.beginning_offsets(list(outside)), _PATIENCE_SECONDS)
        cut_off = {tp: mark.offset for tp, mark in outside.items() if begins[tp] <= mark.offset}
        return {tp: f"it ends before {offset}, and what was there was read" for tp, offset in cut_off.items()}

    async def backlog(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """How many offsets there are in each partition.

        Raises
        ------
        aiokafka.errors.KafkaError, TimeoutError
            If a broker does not say.
        """
        if not tps:
            return {}
        asked = self._consumer.beginning_offsets(tps), self._consumer.end_offsets(tps)
        begins, ends = await asyncio.wait_for(asyncio.gather(*asked), _PATIENCE_SECONDS)
        return {tp: int(ends[tp] - begins[tp]) for tp in tps}
