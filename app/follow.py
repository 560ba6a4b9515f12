"""Topics that are read whole and from then on: what they say now is a table that somebody keeps."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.stream.checkpoint import end_offset

_POLL_MS: Final = 100


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
        self._consumer = consumer
        self._tps = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        self._take = take

    async def run(self) -> None:
        """Read without end."""
        self._consumer.assign(self._tps)
        ends = {tp: await end_offset(self._consumer, tp) for tp in self._tps}
        await self._consumer.seek_to_beginning(*self._tps)
        while True:
            found: dict[TopicPartition, Any] = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for records in found.values():
                for record in records:
                    self._take(record)
            if not self.read.is_set():
                places = await asyncio.gather(*(self._consumer.position(tp) for tp in self._tps))
                if all(place >= ends[tp] for tp, place in zip(self._tps, places, strict=True)):
                    self.read.set()
