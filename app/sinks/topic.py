"""What sinks that write to a topic share: a row says what to write, the publisher writes it and counts."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata

from app.core.outcomes import Outcomes

#: The largest batch put together here, in bytes; the brokers' default limit is 1 MiB.
BATCH_BYTES: Final = 900_000


class Line(NamedTuple):
    """One record to write. `partition` None means the partition its cause came from."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


class TopicSink(NamedTuple):
    """A consumer of outcomes: the topic it writes to and how it writes one batch's outcomes down.

    What one key says belongs together, whatever partition concludes it, where the topic is `by_key`.
    """

    topic: str
    lines: Callable[[Outcomes], Iterable[Line]]
    by_key: bool = False


class Publisher:
    """Writes the outcomes of a batch to their topics, and counts what each sink wrote.

    Parameters
    ----------
    producer
        Started; `acks=all`.
    sinks
        The sinks, in the order they are written.
    topic
        Short name -> full name of a topic.
    partitions
        How many every topic has.
    """

    def __init__(
        self, producer: AIOKafkaProducer, sinks: Sequence[TopicSink], topic: Callable[[str], str], partitions: int
    ) -> None:
        self.written = {sink.topic: 0 for sink in sinks}
        self._producer = producer
        self._sinks = sinks
        self._topic = topic
        self._partitions = partitions

    async def write(self, partition: int, outcomes: Outcomes) -> None:
        """Write everything and return when every in-sync replica has it.

        Parameters
        ----------
        partition
            The partition the outcomes came from.
        outcomes
            What a stage concluded from one batch.

        Raises
        ------
        aiokafka.errors.KafkaError
            If any record could not be written; a note of the error names the topics that could not be.
        """
        pending: list[tuple[str, int, asyncio.Future[RecordMetadata]]] = []
        for sink in self._sinks:
            grouped: dict[int, list[Line]] = defaultdict(list)
            for line in sink.lines(outcomes):
                grouped[self._target(sink, line, partition)].append(line)
            for target, lines in grouped.items():
                for future, count in await self._send(sink.topic, target, lines):
                    pending.append((sink.topic, count, future))
        results = await asyncio.gather(*(future for _, _, future in pending), return_exceptions=True)
        failed: dict[str, BaseException] = {}
        for (topic, count, _), result in zip(pending, results, strict=True):
            if isinstance(result, BaseException):
                failed[topic] = result
            else:
                self.written[topic] += count
        if failed:
            error = next(iter(failed.values()))
            error.add_note(f"not written: {', '.join(self._topic(topic) for topic in failed)}")
            raise error

    def _target(self, sink: TopicSink, line: Line, cause: int) -> int:
        if sink.by_key:
            # As Kafka's own clients do, so that who writes to the topic by hand writes to the same place.
            return int(murmur2(line.key or b"") & 0x7FFFFFFF) % self._partitions
        return cause if line.partition is None else line.partition

    async def _send(
        self, name: str, partition: int, lines: list[Line]
    ) -> list[tuple["asyncio.Future[RecordMetadata]", int]]:
        """Hand the lines of one partition to the producer in as few batches as they fit into."""
        sent: list[tuple[asyncio.Future[RecordMetadata], int]] = []
        batch, count = self._producer.create_batch(), 0
        for line in lines:
            added = batch.append(
                key=line.key, value=line.value, timestamp=None, headers=[(k, v) for k, v in line.headers]
            )
            if added is None:
                sent.append((await self._producer.send_batch(batch, self._topic(name), partition=partition), count))
                batch, count = self._producer.create_batch(), 0
                batch.append(key=line.key, value=line.value, timestamp=None, headers=[*line.headers])
            count += 1
        sent.append((await self._producer.send_batch(batch, self._topic(name), partition=partition), count))
        return sent
