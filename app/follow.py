"""Topics that are read whole and from then on: what they say now is a table that somebody keeps."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from app.conventions import METRIC_PREFIX
from app.stream.checkpoint import end_offset
from app.stream.logs import Mark

log = logging.getLogger("qethics.follow")

_POLL_MS: Final = 100
#: The client says nothing when brokers are out of reach, so they are asked for the ends of the topics so often.
ASK_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 10.0
_LOOK_MS: Final = 500


class Follow:
    """Hands every record of some topics on, from the beginning and without end.

    Should a topic be made again, or its log be cut off or put back from elsewhere, what is there then is read from its
    beginning; what was read before is not taken back.

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

        #: What was read last of each partition, and a record before it that its log is known again by.
        self._last: dict[TopicPartition, Any] = {}
        self._marks: dict[TopicPartition, Mark] = {}
        #: How often each log was found to be another than the one that was read.
        self.began_anew = dict.fromkeys(self._tps, 0)

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
            for tp, records in found.items():
                if records and tp in self._last and records[0].offset <= self._last[tp].offset:
                    # The client goes to the beginning by itself where there is no such place any more.
                    self._begins_anew(tp, f"it goes on at {records[0].offset} after {self._last[tp].offset}")
                for record in records:
                    self._take(record)
                    self._last[tp] = record
            if self.read_at < asked_at and await self._has_reached(ends):
                self.read_at, self._read_monotonic = asked_at, asked_monotonic
                self.read.set()
            if self.read.is_set() and time.monotonic() - asked_monotonic >= self._ask_seconds:
                now, monotonic = time.time(), time.monotonic()
                if (found_ends := await self._asked_again()) is not None:
                    asked_at, asked_monotonic, ends = now, monotonic, found_ends
                await self._look()

    async def _has_reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        places = await asyncio.gather(*(self._consumer.position(tp) for tp in self._tps))
        return all(place >= ends[tp] for tp, place in zip(self._tps, places, strict=True))

    async def _look(self) -> None:
        """See whether the logs are still those that were read; one that is not is read from its beginning."""
        for tp in self._tps:
            last, mark, place = self._last.get(tp), self._marks.get(tp), await self._consumer.position(tp)
            if last is None:
                continue
            try:
                why = None if mark is None else await self._difference(tp, mark)
            finally:
                self._consumer.seek(tp, place)
            if why is not None:
                self._begins_anew(tp, why)
                await self._consumer.seek_to_beginning(tp)
            else:
                self._marks[tp] = Mark.of(last, last.offset)

    async def _difference(self, tp: TopicPartition, mark: Mark) -> str | None:
        self._consumer.seek(tp, mark.offset)
        records = (await self._consumer.getmany(tp, timeout_ms=_LOOK_MS)).get(tp)
        if not records:
            return None  # compaction has removed it, or nobody answers
        if records[0].offset < mark.offset:
            return f"it ends before {mark.offset}, and what was there was read"
        return mark.difference(records[0])

    def _begins_anew(self, tp: TopicPartition, why: str) -> None:
        self.began_anew[tp] += 1
        self._last.pop(tp, None)
        self._marks.pop(tp, None)
        log.error("%s/%d: the log began anew: %s; it is read from its beginning", tp.topic, tp.partition, why)

    async def _asked_again(self) -> dict[TopicPartition, int] | None:
        """Return what the brokers say of the ends; None if they do not answer.

        Not `end_offset`, which reads at the end: nothing may move the place that we read from.
        """
        try:
            return dict(await asyncio.wait_for(self._consumer.end_offsets(self._tps), _ANSWER_SECONDS))
        except (KafkaError, TimeoutError) as error:
            log.warning("the ends of the topics are not to be had: %s", error or type(error).__name__)
            return None


class FollowCollector(Collector):
    """What became of the logs that are followed, as metrics.

    Parameters
    ----------
    follow
        Follows them.
    prefix
        What the names of topics begin with; it is left out.
    """

    def __init__(self, follow: Follow, prefix: str) -> None:
        self._follow = follow
        self._prefix = prefix

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        text = "times that a log was found to be another than the one that was read"
        family = CounterMetricFamily(METRIC_PREFIX + "logs_began_anew", text, labels=["topic", "partition"])
        for tp, times in self._follow.began_anew.items():
            family.add_metric([tp.topic.removeprefix(self._prefix), str(tp.partition)], times)
        yield family
