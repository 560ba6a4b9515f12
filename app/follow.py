"""Topics that are read whole and from then on: what they say now is a table that somebody keeps."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.stream.checkpoint import end_offset

log = logging.getLogger("qethics.follow")

_POLL_MS: Final = 100
#: The client says nothing when brokers are out of reach, so they are asked for the ends of the topics so often.
ASK_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 10.0


class Follow:
    """Hands every record of some topics on, from the beginning and without end.

    Parameters
    ----------
    consumer
        Started, outside any group; for this alone.
    topics, partitions
        Full names of the topics, and how many partitions each has.
    take
        Is given every record, in the order of its partition.
    ask_seconds
        How often the brokers are asked whether everything was read; as old as this may be what is known.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topics: Sequence[str],
        partitions: int,
        take: Callable[[Any], None],
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        #: Whether everything was read that was there at the start.
        self.read = asyncio.Event()
        #: Everything was read that was there at this time, in seconds since the epoch.
        self.read_at = 0.0
        self._consumer = consumer
        self._tps = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        self._take = take
        self._ask_seconds = ask_seconds
        #: The same as `read_at` by a clock that nobody sets.
        self._read_monotonic = float("-inf")

    @property
    def age_seconds(self) -> float:
        """How long ago everything was read that was there then; infinite before it was."""
        return time.monotonic() - self._read_monotonic

    async def run(self) -> None:
        """Read without end."""
        self._consumer.assign(self._tps)
        asked_at, asked_monotonic = time.time(), time.monotonic()
        ends = {tp: await end_offset(self._consumer, tp) for tp in self._tps}
        await self._consumer.seek_to_beginning(*self._tps)
        while True:
            found: dict[TopicPartition, Any] = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for records in found.values():
                for record in records:
                    self._take(record)
            if self.read_at < asked_at and await self._has_reached(ends):
                self.read_at, self._read_monotonic = asked_at, asked_monotonic
                self.read.set()
            if self.read.is_set() and time.monotonic() - asked_monotonic >= self._ask_seconds:
                now, monotonic = time.time(), time.monotonic()
                if (found_ends := await self._asked_again()) is not None:
                    asked_at, asked_monotonic, ends = now, monotonic, found_ends

    async def _has_reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        places = await asyncio.gather(*(self._consumer.position(tp) for tp in self._tps))
        return all(place >= ends[tp] for tp, place in zip(self._tps, places, strict=True))

    async def _asked_again(self) -> dict[TopicPartition, int] | None:
        """Return what the brokers say of the ends; None if they do not answer.

        Not `end_offset`, which reads at the end: nothing may move the place that we read from.
        """
        try:
            return dict(await asyncio.wait_for(self._consumer.end_offsets(self._tps), _ANSWER_SECONDS))
        except (KafkaError, TimeoutError) as error:
            log.warning("the ends of the topics are not to be had: %s", error or type(error).__name__)
            return None
