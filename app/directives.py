"""The directives in force, read from their compacted topic and kept up to date."""

import logging
import time
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer

from app.core.orders import active, issued_at, readable
from app.core.outcomes import Directive
from app.follow import Follow
from app.unreadable import UNREADABLE, said_of

log = logging.getLogger("qethics.directives")

#: Orders hold for minutes: what was known a quarter of one ago is what to go by, and nothing older.
MOST_AGE_SECONDS: Final = 15.0
_LIFTED_KEPT: Final = 10_000


class Directives:
    """What the topic `directives` says.

    Parameters
    ----------
    consumer
        Started, outside any group.
    topic, partitions
        The topic and how many partitions it has.
    most_age_seconds
        How old what is known of them may be.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, topic: str, partitions: int, most_age_seconds: float = MOST_AGE_SECONDS
    ) -> None:
        #: Key of the topic -> the directive; there are as many as there are targets.
        self._known: dict[bytes, Directive] = {}
        #: Key -> when the directive that was lifted there had been issued, seconds since the epoch; the oldest first.
        self._lifted: dict[bytes, float] = {}
        self.unreadable = 0
        self._most_age_seconds = most_age_seconds
        self.follow = Follow(consumer, [topic], partitions, self._take, most_age_seconds / 4)

    def not_ready(self) -> str | None:
        """Return why they are not known: they have not been read yet, or what was read is too old to go by."""
        if not self.follow.read.is_set():
            return "the directives are being read"
        age = self.age_seconds
        if age > self._most_age_seconds:
            return f"what is known of the directives is {age:.0f} s old: their broker does not answer"
        return None

    @property
    def age_seconds(self) -> float:
        """How old what is known of them is."""
        return self.follow.age_seconds

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
            self._lift(key)
            return
        try:
            order = msgspec.json.decode(value, type=Directive)
            readable(order)
        except UNREADABLE as error:
            self.unreadable += 1
            log.error("a directive that cannot be read: %s: %r", said_of(error), value[:200])
            return
        if issued_at(order) <= self._lifted.get(key, float("-inf")):
            # Written late by a process that does not know of it: what was lifted does not take effect again.
            log.warning("a directive that was lifted came again: %s of %s", order.directive, order.issued_at)
            return
        self._known[key] = order

    def _lift(self, key: bytes) -> None:
        order = self._known.pop(key, None)
        if order is None:
            return
        self._lifted.pop(key, None)
        self._lifted[key] = issued_at(order)
        if len(self._lifted) > _LIFTED_KEPT:
            del self._lifted[next(iter(self._lifted))]
