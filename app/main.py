"""The composition root: the only file that knows every room. It puts a worker together and decides nothing."""

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faust.types import TP

from app import kafka
from app.access import Access, access
from app.catalog import load_catalog
from app.conventions import CHECKPOINTS, HEARTBEAT_HEADER, JOBS, POLICY_HEADER
from app.core.catalog import Catalog
from app.core.policy import Policy
from app.core.records import Control, control
from app.core.runs import RunStage
from app.core.seal import UNSEALED, Seal
from app.core.sli import SLIS
from app.core.streams import StreamStage
from app.policy.bundles import Bundles
from app.policy.evaluator import LABELS, Evaluator
from app.policy.pack import load_pack
from app.policy.trust import TrustFiles, read_trust
from app.policy.watch import Source, Watch
from app.serving import (
    build_info,
    collect_cycles,
    forever,
    listening,
    own_directory,
    quiet_libraries,
    registry_of,
    seal_of,
    serve,
    told_to_stop,
)
from app.settings import Settings
from app.sinks import alerts, dead_letter, decisions, directives, evidence, gaps, replay_requests, samples, violations
from app.sinks.loss_metrics import LossCollector
from app.sinks.metrics import StageCollector
from app.sinks.policy_metrics import PolicyCollector
from app.sinks.topic import BATCH_BYTES, Publisher, TopicSink
from app.stream import agents
from app.stream.checkpoint import CheckpointStore
from app.stream.logs import LogReader
from app.stream.partitions import PartitionWatch
from app.stream.protocol import Batch, Kind, offset_of
from app.stream.shell import Shell, fail_stop
from app.tracing import Tracer, tracer
from app.web.server import application
from app.web.status import detectors, status

log = logging.getLogger("qethics")

#: The state of the stages has no reference cycles, and a batch makes thousands of short-lived objects: looking for
#: cycles at Python's default of every 700 of them costs a fifth of the throughput and finds nothing.
_GC_THRESHOLDS: Final = (100_000, 20, 20)

#: A worker that cannot say goodbye within this time ends without: the group notices by itself.
_STOP_SECONDS: Final = 10.0


def sinks(seal: Seal = UNSEALED) -> tuple[TopicSink, ...]:
    """The sinks that write to topics, in the order they are written. To add one: its file, and its name here."""
    return (
        dead_letter.SINK,
        samples.SINK,
        violations.SINK,
        decisions.SINK,
        evidence.SINK,
        alerts.SINK,
        directives.SINK,
        gaps.sink(seal),
        replay_requests.SINK,
    )


def kinds(catalog: Catalog, policies: Policy | Bundles, partitions: int, seal: Seal = UNSEALED) -> tuple[Kind, ...]:
    """The stages there are. To add one: its file, and its line here."""

    async def prepare(batch: Batch) -> None:
        """Verify bundles before their place in the log is reached: that takes a second, and nothing else may wait."""
        for record in batch.records:
            if record.headers and isinstance(policies, Bundles):
                said = control(record, batch.topic, batch.partition, seal, 0.0)
                if isinstance(said, Control) and said.policy is not None:
                    await policies.prepare(said.policy)

    return (
        Kind("runs", RunStage.topics, lambda partition: RunStage(catalog, policies, partitions, seal=seal), prepare),
        Kind("streams", StreamStage.topics, lambda partition: StreamStage(catalog, partitions, seal=seal)),
    )


def run_worker(settings: Settings) -> None:
    """Run one worker until it is told to stop.

    Raises
    ------
    QethicsError
        If it cannot begin; the error says why and what to do.
    """
    quiet_libraries(settings.log_level)
    catalog = load_catalog(settings.policies)
    directory = own_directory(settings.data_directory / f"worker-{settings.web_port}")
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.freeze()  # what is there from the start stays; it need not be looked through again
    with listening(settings.web_host, settings.web_port, "web_port") as listener, _policies(settings) as policies:
        allowed = access(settings, "web", listener)
        asyncio.run(_Worker(settings, catalog, policies, directory, listener, allowed).run())


@contextmanager
def _policies(settings: Settings) -> Iterator[Policy | Bundles]:
    """The rules of the directory, or those that come in signed bundles."""
    if settings.policy_keys is None:
        pack = load_pack(settings.policies)
        with closing(Evaluator.of(pack)) as evaluate:
            yield Policy(pack, evaluate, labels=LABELS)
    else:
        with closing(Bundles(*read_trust(settings.policy_keys, settings.policy_revocations))) as bundles:
            yield bundles


class _Worker:
    """One worker process: what it holds, in the order it is started."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        policies: Policy | Bundles,
        directory: Path,
        listener: socket.socket,
        allowed: Access,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._policies = policies
        self._seal = seal_of(settings)
        self._watch: Watch | None = None
        self._tracer: Tracer | None = None
        self._directory = directory
        self._listener = listener
        self._allowed = allowed
        self._name = f"{socket.gethostname()}:{listener.getsockname()[1]}"

    async def run(self) -> None:
        """Start everything, wait, stop everything."""
        stop = told_to_stop()
        settings = self._settings
        await kafka.ensure_topics(settings)
        async with AsyncExitStack() as stack:
            producer = await kafka.opened(stack, kafka.producer(settings, max_batch_size=BATCH_BYTES), settings)
            reader = await kafka.opened(
                stack, kafka.consumer(settings, max_partition_fetch_bytes=8 * 2**20, fetch_max_wait_ms=20), settings
            )
            places = await kafka.opened(
                stack, kafka.consumer(settings, auto_offset_reset="none", max_partition_fetch_bytes=2**16), settings
            )
            admin = await kafka.opened(stack, kafka.admin(settings), settings)
            publisher = Publisher(producer, sinks(self._seal), settings.topic, settings.partitions)
            self._tracer = tracer(settings, self._name, version("qethics"))
            if self._tracer is not None:
                stack.callback(self._tracer.close)
            logs = LogReader(places)
            shell = self._shell(publisher, producer, reader, logs)
            self._partitions = PartitionWatch(
                shell.topics, settings.partitions, partial(kafka.partition_counts, admin), logs.backlog
            )
            await self._go_by_bundle(shell, publisher, producer)
            self._app = app = agents.build(
                group=settings.group,
                bootstrap=settings.bootstrap,
                directory=self._directory,
                shell=shell,
                conf={
                    "broker_session_timeout": settings.session_timeout_seconds,
                    "broker_heartbeat_interval": settings.session_timeout_seconds / 4,
                    "broker_rebalance_timeout": settings.rebalance_timeout_seconds,
                    "broker_request_timeout": settings.request_timeout_seconds,
                },
            )
            stack.push_async_callback(await self._serve(shell, publisher))
            app.finalize()
            tasks = [
                forever(shell.run_checkpoints()),
                forever(shell.run_heartbeats()),
                forever(shell.run_watchdog(lambda: sum(self._waiting().values()))),
                forever(shell.run_looks()),
                forever(self._partitions.run()),
                forever(collect_cycles()),
            ]
            if self._watch is not None:
                tasks.append(forever(self._watch.run(settings.policy_seconds)))
            await self._until_told(app, stop)
            began = time.monotonic()
            try:
                await asyncio.wait_for(app.stop(), _STOP_SECONDS)
            except TimeoutError:
                fail_stop(RuntimeError(f"not stopped within {_STOP_SECONDS:.0f} s; the last checkpoint holds"))
            log.info("stopped in %.1f s", time.monotonic() - began)
            for task in tasks:
                task.cancel()

    async def _until_told(self, app: Any, stop: asyncio.Event) -> None:
        """Start Faust and wait until we are told to stop. Should Faust end by itself, that is a failure."""
        told = asyncio.ensure_future(stop.wait())
        for running in (app.start(), app.wait_until_stopped()):
            task = asyncio.ensure_future(running)
            await asyncio.wait({told, task}, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                task.cancel()
                return
            task.result()
        fail_stop(app._crash_reason or RuntimeError("Faust stopped by itself"))

    def _shell(
        self, publisher: Publisher, producer: AIOKafkaProducer, reader: AIOKafkaConsumer, logs: LogReader
    ) -> Shell:
        settings = self._settings

        async def beat(name: str, partition: int) -> int:
            headers = self._seal.headers(name, partition, HEARTBEAT_HEADER, b"1", b"{}", time.time())
            topic = settings.topic(name)
            return int((await producer.send_and_wait(topic, b"{}", partition=partition, headers=headers)).offset)

        async def commit(offsets: dict[TP, int]) -> None:
            consumer: Any = self._app.consumer  # `_commit` is held by the contract test
            await consumer._commit(offsets)

        async def beginnings(tps: Iterable[TP]) -> dict[TP, int]:
            found = await self._app.consumer.earliest_offsets(*tps)
            return {TP(tp.topic, tp.partition): offset for tp, offset in found.items()}

        return Shell(
            partitions=settings.partitions,
            deployment=settings.group,
            kinds=kinds(self._catalog, self._policies, settings.partitions, self._seal),
            sinks=publisher,
            store=CheckpointStore(producer, reader, settings.topic(CHECKPOINTS)),
            commit=commit,
            beginnings=beginnings,
            replaced=logs.replaced,
            beat=beat,
            topic=settings.topic,
            client_options=kafka.client_options(settings),
            consumer_options={
                "max_poll_records": settings.max_poll_records,
                "session_timeout_ms": int(settings.session_timeout_seconds * 1000),
                "heartbeat_interval_ms": int(settings.session_timeout_seconds * 250),
                "rebalance_timeout_ms": int(settings.rebalance_timeout_seconds * 1000),
                "max_poll_interval_ms": 300_000,
                "fetch_max_wait_ms": 100,
                "max_partition_fetch_bytes": kafka.MAX_RECORD_BYTES,
            },
            checkpoint_seconds=settings.checkpoint_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            stall_seconds=settings.stall_seconds,
            traces=self._tracer,
        )

    async def _go_by_bundle(self, shell: Shell, publisher: Publisher, producer: AIOKafkaProducer) -> None:
        """Verify the bundle that is to be in force, where there is to be one, and have it watched."""
        settings, bundles = self._settings, self._policies
        if settings.policy_bundle is None or settings.policy_keys is None or not isinstance(bundles, Bundles):
            log.warning("the rules are those of %s, unsigned; set QETHICS_POLICY_BUNDLE", settings.policies)
            return

        async def activate(partition: int, bundle: bytes) -> None:
            headers = self._seal.headers(JOBS, partition, POLICY_HEADER, b"1", bundle, time.time())
            await producer.send_and_wait(settings.topic(JOBS), bundle, partition=partition, headers=headers)

        trust = TrustFiles(settings.policy_keys, settings.policy_revocations)
        source = Source(settings.policy_bundle, bundles, self._directory / "policy-version", trust)
        self._watch = Watch(source, bundles, in_force=lambda: _in_force(shell), activate=activate)
        await source.look()
        if source.refused is not None:
            log.error("what no policy judges is denied until %s holds a good one", source.path)

    def _waiting(self) -> dict[tuple[str, int], int]:
        """Records of each (topic, partition) that we hold and have not applied."""
        consumer = self._app.consumer
        waiting = {}
        for unit in list(self._app.shell.units.values()):
            for name, position in unit.positions.items():
                end = consumer.highwater(TP(self._settings.topic(name), unit.partition))
                waiting[name, unit.partition] = max(0, (end or 0) - offset_of(position))
        return waiting

    def _lag(self) -> dict[tuple[str, int], int]:
        """What waits, and what nobody reads because its partition is not served; each is told by one worker."""
        lag = self._waiting()
        names = {self._settings.topic(name): name for name, _ in lag}
        for tp, records in self._partitions.unread.items():
            if (names.get(tp.topic), tp.partition % self._settings.partitions) in lag:
                lag[names[tp.topic], tp.partition] = records
        return lag

    async def _serve(self, shell: Shell, publisher: Publisher) -> Callable[[], Any]:
        """Start the pages; returns what stops them."""
        build = build_info()
        registry = registry_of(
            StageCollector(shell, publisher, self._lag, self._catalog, build, self._tracer),
            LossCollector(shell, self._partitions),
            PolicyCollector(lambda: _in_force(shell), self._watch),
        )
        names = {sli.id: sli.text for sli in SLIS}
        allowed = self._allowed
        pages = application(
            registry,
            lambda: status(shell, self._lag(), build, self._partitions.complaints(), sealed=bool(self._seal)),
            lambda: names,
            lambda: detectors(shell),
            allowed.token,
            allowed.hosts,
        )
        stop = await serve(pages, self._listener, allowed.certificate)
        log.info("status page at %s://%s:%d/", allowed.scheme, *self._listener.getsockname()[:2])
        return stop


def _in_force(shell: Shell) -> dict[int, Policy]:
    """Partition -> the policy it is judged by."""
    units = [(unit.partition, unit.stage) for unit in list(shell.units.values())]
    return {partition: stage.policy for partition, stage in units if isinstance(stage, RunStage)}
