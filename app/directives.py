"""The directives in force, read from their compacted topic and kept up to date."""

import logging
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from app.core.orders import active, readable
from app.core.outcomes import Directive
from app.follow import Follow

log = logging.getLogger("qethics.directives")


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
        self.follow = Follow(consumer, [topic], partitions, self._take)

    def not_ready(self) -> str | None:
        """Why they are not known yet; None once everything was read that was there at the start."""
        return None if self.follow.read.is_set() else "the directives are being read"

    async def known(self) -> None:
        """Wait until everything was read that was there at the start."""
        await self.follow.read.wait()

    def active(self) -> list[Directive]:
        """Those that are in force now."""
        return active(self._known.values(), time.time())

    async def run(self) -> None:
        """Read without end."""
        await self.follow.run()

    def _take(self, record: Any) -> None:
        key, value = record.key or b"", record.value
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
