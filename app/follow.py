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
_ASK_SECONDS: Final = 15.0
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
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, topics: Sequence[str], partitions: int, take: Callable[[Any], None]
    ) -> None:
        #: Whether everything was read that was there at the start.
        self.read = asyncio.Event()
        #: Everything was read that was there at this time, in seconds since the epoch.
        self.read_at = 0.0
        self._consumer = consumer
        self._tps = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        self._take = take

    async def run(self) -> None:
        """Read without end."""
        self._consumer.assign(self._tps)
        asked_at, ends = time.time(), {tp: await end_offset(self._consumer, tp) for tp in self._tps}
        await self._consumer.seek_to_beginning(*self._tps)
        while True:
            found: dict[TopicPartition, Any] = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for records in found.values():
                for record in records:
                    self._take(record)
            if self.read_at < asked_at and await self._has_reached(ends):
                self.read_at = asked_at
                self.read.set()
            if self.read.is_set() and time.time() - asked_at >= _ASK_SECONDS:
                asked_at, ends = await self._asked_again(asked_at, ends)

    async def _has_reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        places = await asyncio.gather(*(self._consumer.position(tp) for tp in self._tps))
        return all(place >= ends[tp] for tp, place in zip(self._tps, places, strict=True))

    async def _asked_again(
        self, asked_at: float, ends: dict[TopicPartition, int]
    ) -> tuple[float, dict[TopicPartition, int]]:
        """When the brokers were asked, and what they say of the ends; as it was, if they do not answer.

        Not `end_offset`, which reads at the end: nothing may move the place that we read from.
        """
        now = time.time()
        try:
            return now, await asyncio.wait_for(self._consumer.end_offsets(self._tps), _ANSWER_SECONDS)
        except (KafkaError, TimeoutError) as error:
            log.warning("the ends of the topics are not to be had: %s", error or type(error).__name__)
            return asked_at, ends
