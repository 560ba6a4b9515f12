"""Whether the topics that are read have the partitions that are served.

Partitions can be added to a topic while workers run. Whoever writes by key then writes into all of them; a run, a
stream and a checkpoint are those of a partition number, so the new ones cannot just be taken along. They are not read;
that is said as long as it is so, and what is in them counts as waiting.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

log = logging.getLogger("qethics.partitions")

_LOOK_SECONDS: Final = 3.0


class PartitionWatch:
    """Looks how many partitions topics have.

    Parameters
    ----------
    topics
        Full names of the topics that are read.
    served
        How many partitions of each are.
    count
        Asks the broker: topic -> how many it has.
    backlog
        Asks the broker: partition -> how many offsets are in it.
    """

    def __init__(
        self,
        topics: Sequence[str],
        served: int,
        count: Callable[[Sequence[str]], Awaitable[dict[str, int]]],
        backlog: Callable[[Collection[TopicPartition]], Awaitable[dict[TopicPartition, int]]],
    ) -> None:
        #: Topic -> how many partitions it has, where that is not how many are served.
        self.found: dict[str, int] = {}
        #: Partition that is not served -> how many records wait in it.
        self.unread: dict[TopicPartition, int] = {}
        self._topics = topics
        self._served = served
        self._count = count
        self._backlog = backlog

    async def run(self) -> None:
        """Look without end."""
        while True:
            try:
                await self.look()
            except (KafkaError, TimeoutError) as error:
                log.warning("how many partitions the topics have is not known: %r", error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once.

        Raises
        ------
        aiokafka.errors.KafkaError, TimeoutError
            If the broker does not say.
        """
        counts = await self._count(self._topics)
        found = {topic: counts.get(topic, 0) for topic in self._topics if counts.get(topic, 0) != self._served}
        for topic in found.keys() - self.found.keys():
            log.error("%s: %s", topic, self._sentence(found[topic]))
        self.found = found
        beyond = [TopicPartition(topic, one) for topic, has in found.items() for one in range(self._served, has)]
        self.unread = await self._backlog(beyond)

    def complaints(self) -> list[str]:
        """What is wrong, in words; nothing if all is as it is to be."""
        said = []
        for topic, has in self.found.items():
            unread = {tp.partition: records for tp, records in self.unread.items() if tp.topic == topic and records}
            those = ", ".join(f"{records} records of partition {number}" for number, records in sorted(unread.items()))
            said.append(f"{topic}: {self._sentence(has)}" + (f" (waiting: {those})" if those else ""))
        return said

    def _sentence(self, has: int) -> str:
        if has < self._served:
            return f"it has {has} partitions, {self._served} are to be read; was it deleted?"
        new = f"{self._served} to {has - 1}" if has > self._served + 1 else str(self._served)
        return f"it has {has} partitions, {self._served} are read; what is written to {new} is not"


def assignor(served: int) -> type[RangePartitionAssignor]:
    """The Range assignor, for so many partitions of every topic, however many a topic has.

    With one partition count and one subscription for all members, it gives partition p of every topic to the same
    member, which a stage over two topics needs.
    """

    class Served(RangePartitionAssignor):
        @classmethod
        def assign(cls, cluster: Any, members: Any) -> Any:
            return super().assign(_Cut(cluster, served), members)

    return Served


class _Cut:
    """The cluster as if no topic had more partitions than are served."""

    def __init__(self, cluster: Any, served: int) -> None:
        self._cluster = cluster
        self._served = served

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Those of a topic that are served."""
        found = self._cluster.partitions_for_topic(topic)
        return found if found is None else {number for number in found if number < self._served}
