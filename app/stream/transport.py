"""Faust's Kafka transport, handing each fetched run of one partition to the agent as one `Batch`.

What is overridden and why (`docs/architecture.md`, "Why not stock Faust"); every override is held by a contract test
against the pinned version:

* `getmany`: one message for each partition and poll, instead of one for each record.
* `_to_message`: the message of a batch.
* `_new_offset`: the offset to commit is the durable one of the shell, not what was acknowledged.
* `_add_gap`: acknowledgements are not used, so there are no gaps to keep.
* `perform_seek`: restores the state and continues at the state's own position, not at the committed one.
* `on_partitions_revoked`: whatever was fetched before is void.
* aiokafka's `PartitionRecords._consumer_record`: hands on the record that its C parser made, which has all we read,
  instead of copying it into an object of Python's; that copy is an eighth of what an event costs.
* the thread's `_create_worker_consumer`: connects as all clients here do, and assigns equal partition numbers of all
  topics to the same worker.
* the producer's `_settings_auth`: connects as all clients here do.
"""

from collections.abc import AsyncIterator, Callable
from itertools import groupby
from typing import Any, Protocol, cast

import aiokafka
from aiokafka.consumer import fetcher
from aiokafka.errors import OffsetOutOfRangeError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from app import kafka_batches
from app.kafka_batches import ReadRecord, TolerantRecords, Unreadable
from app.stream.partitions import assignor
from app.stream.protocol import Batch, SetAside, offset_of

SCHEME = "batch"


class Host(Protocol):
    """What the transport needs of the shell; it is found as `app.shell`."""

    generation: int
    partitions: int
    client_options: dict[str, Any]
    consumer_options: dict[str, Any]

    doubtful: bool

    async def restore(self, assigned: set[TP], current: Callable[[], bool]) -> dict[TP, int] | None: ...
    async def again(self) -> None: ...
    def durable(self, tp: TP) -> int | None: ...
    def fail(self, error: BaseException) -> None: ...


class LeanRecords(TolerantRecords):
    """Fetched records of one partition, as the parser made them: offset, timestamp, key, value, headers."""

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record


def _after(record: Any) -> int:
    """The offset that what comes after a record has at the least."""
    return int(record.next if type(record) is Unreadable else record.offset + 1)


def _aside(unreadable: Unreadable) -> SetAside:
    return SetAside("decompression_bomb" if unreadable.bomb else "corrupt_batch", unreadable.detail)


def _moved(record: Any, base: int) -> Any:
    """A record with its position for its offset."""
    if isinstance(record, Unreadable):
        return record._replace(offset=base + record.offset, next=base + record.next)
    return ReadRecord(
        base + record.offset, record.timestamp, record.timestamp_type, record.key, record.value, record.headers
    )


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that talks to Kafka."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        host = cast(Host, cast(Any, self.app).shell)
        self._assignor = assignor(host.partitions)
        kafka_batches.install()
        vars(fetcher)["PartitionRecords"] = LeanRecords
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            # A place that the broker does not have is a loss to be told, not a place to go on from in silence.
            auto_offset_reset="none",
            isolation_level="read_committed",
            **host.consumer_options,
            **host.client_options,
        )


class BatchConsumer(driver.Consumer):
    """A consumer whose messages are batches."""

    #: Moves with every rebalance and seek: what was fetched meanwhile may be from another place.
    _epoch = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The offset each partition continues at; nothing is delivered of a partition that is not in here.
        self._expected: dict[TP, int] = {}
        #: What is added to the offsets of a partition, so that positions never go back (`app.stream.protocol.LOG`).
        self._bases: dict[TP, int] = {}
        #: The hole that was last seen and not believed: (where it begins, the offset after it).
        self._doubted: dict[TP, tuple[int, int]] = {}

    @property
    def _host(self) -> Host:
        return cast(Host, cast(Any, self.app).shell)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Fetch, and yield a message for each partition; one more for each batch that cannot be read."""
        epoch = self._epoch
        try:
            records, _ = await self._wait_next_records(timeout)
        except OffsetOutOfRangeError:
            await self._begin_again()
            return
        if self.should_stop:
            return
        if self._host.doubtful:
            await self._begin_again()
            return
        for tp, fetched in (records or {}).items():
            expected = self._expected.get(tp)
            if expected is None or not self.flow_active:
                continue  # a rebalance is under way; the seek at its end decides where to continue
            run, joined_in = self._joining(tp, list(fetched), expected, epoch), self._epoch
            if run and run[0].offset > expected + 1 and (await self.earliest_offsets(tp))[tp] > expected:
                await self._begin_again()  # no marker, and no compaction: what was there has been deleted
                return
            if run:
                self._expected[tp] = _after(run[-1])
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                for batch in self._batches(tp, run, expected):
                    yield tp, self._to_message(tp, batch)
            # Not before: Faust drops what is before the place that was sought last.
            if len(run) < len(fetched) and self._epoch == joined_in:
                await self.seek_wait({tp: self._expected[tp]})

    def _batches(self, tp: TP, run: list[Any], expected: int) -> list[Batch]:
        """A run of records as batches: one, unless there is something among them that cannot be read."""
        base = self._bases.get(tp, 0)
        if base:
            run = [_moved(record, base) for record in run]
        generation, place = self._host.generation, base + expected
        if Unreadable not in map(type, run):
            return [Batch(tp.topic, tp.partition, place, run[-1].offset + 1, run, generation)]
        batches = []
        for unreadable, group in groupby(run, key=lambda record: isinstance(record, Unreadable)):
            records = list(group)
            for part in [[record] for record in records] if unreadable else [records]:
                after = _after(part[-1])
                why = _aside(part[0]) if unreadable else None
                batches.append(Batch(tp.topic, tp.partition, place, after, part, generation, why))
                place = after
        return batches

    async def _begin_again(self) -> None:
        """Restore again, from what is durable by then: some log is not as we left it."""
        rebalances = self.app.rebalancing_count
        self._epoch += 1
        self._expected = {}
        await self._host.again()
        if self.flow_active and self.app.rebalancing_count == rebalances:
            await self.perform_seek()

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """A batch as the message of its last record."""
        last = record.records[-1]
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=offset_of(record.next) - 1,
            timestamp=last.timestamp / 1000,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=record,
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _joining(self, tp: TP, run: list[Any], expected: int, epoch: int) -> list[Any]:
        """The records, from the first on, that join what was delivered before.

        Markers of transactions and compaction leave offsets without a record; but so does a fetch from a place that has
        been left since, or a broker that shows a record before the one in front of it. So a hole is believed only when
        a second fetch from its edge shows it again.
        """
        if run[0].offset == expected and run[-1].offset - expected + 1 == len(run) and type(run[-1]) is not Unreadable:
            return run
        for index, record in enumerate(run):
            if record.offset != expected:
                seen_again = self._doubted.get(tp) == (expected, record.offset)
                if record.offset < expected or epoch != self._epoch or not seen_again:
                    self._doubted[tp] = expected, record.offset
                    return run[:index]
            expected = _after(record)
        return run

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        return

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._host.durable(tp)

    async def perform_seek(self) -> None:
        """Restore the state of what is assigned and continue where that state ends."""
        rebalances = self.app.rebalancing_count
        try:
            positions = await self._host.restore(
                set(self.assignment()), lambda: self.app.rebalancing_count == rebalances
            )
            if positions is None:
                return  # the next rebalance restores and seeks for itself
            self._expected = {}
            self._epoch += 1
            offsets = {tp: offset_of(position) for tp, position in positions.items()}
            if offsets:
                await self.seek_wait(offsets)
            self._bases = {tp: position - offsets[tp] for tp, position in positions.items()}
            self._expected = offsets
        except Exception as error:  # Faust would swallow it and go on with no state at all
            if self.app.rebalancing_count == rebalances:  # else the next one restores and seeks for itself
                self._host.fail(error)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Void what is being fetched, then let the application take leave of its partitions."""
        self._epoch += 1
        self._expected = {}
        await super().on_partitions_revoked(revoked)


class BatchProducer(driver.Producer):
    """Faust's own producer; it sends nothing here, but it must be able to connect."""

    def _settings_auth(self) -> dict[str, Any]:
        host = cast(Host, cast(Any, self.app).shell)
        names = ("security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
        return {name: host.client_options[name] for name in names if name in host.client_options}


class BatchTransport(driver.Transport):
    """The transport behind the URL scheme `batch`."""

    Consumer = BatchConsumer
    Producer = BatchProducer
