"""The directives in force, read from their compacted topic and kept up to date."""

import asyncio
import logging
import time
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.core.orders import active, readable
from app.core.outcomes import Directive
from app.stream.checkpoint import end_offset

log = logging.getLogger("qethics.admission")

_POLL_MS: Final = 100


class Directives:
    """What the topic `directives` says.

    Parameters
    ----------
    consumer
        Started, outside any group.
    topic, partitions
        The topic and how many partitions it has.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, partitions: int) -> None:
        #: Key of the topic -> the directive; there are as many as there are targets.
        self._known: dict[bytes, Directive] = {}
        self.unreadable = 0
        self._consumer = consumer
        self._tps = [TopicPartition(topic, number) for number in range(partitions)]
        self._read = False

    def not_ready(self) -> str | None:
        """Why they are not known yet; None once everything was read that was there at the start."""
        return None if self._read else "the directives are being read"

    def active(self) -> list[Directive]:
        """Those that are in force now."""
        return active(self._known.values(), time.time())

    async def run(self) -> None:
        """Read without end."""
        self._consumer.assign(self._tps)
        ends = {tp: await end_offset(self._consumer, tp) for tp in self._tps}
        await self._consumer.seek_to_beginning(*self._tps)
        while True:
            found: dict[TopicPartition, Any] = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for records in found.values():
                for record in records:
                    self._take(record.key or b"", record.value)
            if not self._read:
                places = await asyncio.gather(*(self._consumer.position(tp) for tp in self._tps))
                self._read = all(place >= ends[tp] for tp, place in zip(self._tps, places, strict=True))

    def _take(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._known.pop(key, None)
            return
        try:
            order = msgspec.json.decode(value, type=Directive)
            readable(order)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            self.unreadable += 1
            log.error("a directive that cannot be read: %s: %r", error, value[:200])
            return
        self._known[key] = order
