"""The peers of the pipeline bench: the same per-event functions inside other frameworks. Run as a child process.

Each peer gets records one by one from its framework, as its users do. The functions are those of the stages; so that a
peer does not pay for our batch interface, records are put together by 1,000 before a stage sees them, which costs one
list append an event. Outcomes are encoded as the sinks do, and not written.
"""

import asyncio
import importlib.util
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from app.catalog import load_catalog
from app.conventions import HEARTBEAT_HEADER, JOBS, RESULTS, SAMPLES
from app.core import decode
from app.core.records import Batch
from app.core.runs import RunStage
from app.core.streams import StreamStage
from app.main import sinks
from app.policy.pack import load_policy
from simulators.scenarios import SCENARIOS
from simulators.traffic import Message, Traffic

PEERS: Final = ("faust", "quixstreams", "bytewax")
_BATCH: Final = 1000
_TEMPLATE: Final = 2_000


class Record(NamedTuple):
    """The part of a Kafka record that the stages look at."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Work:
    """The per-event functions, and the clock that is read at the first and the last event."""

    def __init__(self, events: int) -> None:
        catalog, policy = load_catalog(), load_policy()
        self._events = events
        self._done = 0
        self._runs = RunStage(catalog, policy, 1)
        self._streams = StreamStage(catalog, 1)
        self._sinks = sinks()
        self._waiting: dict[tuple[str, int], list[Record]] = {}
        self._cpu = self._began = self._beaten = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._cpu, self._began = time.process_time(), time.monotonic()

    def take(self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None) -> bool:
        """One record; True when it was the last."""
        waiting = self._waiting.setdefault((topic, partition), [])
        waiting.append(Record(offset, 0, key, value))
        self._done += 1
        last = self._done == self._events
        if last:
            for (name, number), records in self._waiting.items():
                self._apply(name, number, records)
            self._report()
        elif len(waiting) >= _BATCH:
            self._apply(topic, partition, waiting)
            waiting.clear()
            self._beat()
        return last

    def _beat(self) -> None:
        """Time passes, as it does for a worker: runs close and their evidence is written down."""
        now = time.time()
        if now - self._beaten >= 1:
            self._beaten = now
            for topic in RunStage.topics:
                self._apply(topic, 0, [Record(0, int(now * 1000), None, b"{}", ((HEARTBEAT_HEADER, b"1"),))])

    def _apply(self, topic: str, partition: int, records: list[Record]) -> None:
        if not records:
            return
        name = next(name for name in RunStage.topics if topic.endswith(name))
        outcomes = self._runs.apply(Batch(name, partition, records[0].offset, records[-1].offset + 1, records))
        for sink in self._sinks:
            for line in sink.lines(outcomes):
                if sink.topic == SAMPLES:
                    self._streams.apply(Batch(SAMPLES, 0, 0, 1, [Record(0, 0, None, line.value)]))

    def _report(self) -> None:
        figures = {
            "cpu_seconds": time.process_time() - self._cpu,
            "seconds": time.monotonic() - self._began,
            "events": self._done,
        }
        sys.stdout.write(json.dumps({"bench": figures}) + "\n")
        sys.stdout.flush()


def installed(name: str) -> bool:
    """Whether a peer can be imported."""
    # Faust replaces its own module, which leaves it without a spec once imported.
    return name in sys.modules or importlib.util.find_spec(name) is not None


def run_faust(work: Work, bootstrap: str, topics: Sequence[str], group: str, directory: str) -> None:
    """A stock Faust agent for each topic."""
    import faust  # noqa: PLC0415 - each child imports the one framework it measures

    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        datadir=directory,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.5,
        consumer_auto_offset_reset="earliest",
    )
    for name in topics:
        topic = app.topic(name, value_serializer="raw", key_serializer="raw")

        async def each(stream: Any) -> None:
            async for event in stream.events():
                message = event.message
                if work.take(message.topic, message.partition, message.offset, message.key, message.value):
                    os._exit(0)

        app.agent(topic, name=f"each-{name}")(each)

    async def main() -> None:
        app.finalize()
        work.start()
        await app.start()
        await asyncio.sleep(3600)

    asyncio.run(main())


def run_quixstreams(work: Work, bootstrap: str, topics: Sequence[str], group: str, directory: str) -> None:
    """A Quix Streams dataframe for each topic."""
    from quixstreams import Application, message_context  # noqa: PLC0415

    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=directory,
        loglevel="ERROR",
        consumer_extra_config={"session.timeout.ms": 6000},
    )

    def each(value: bytes) -> bytes:
        context = message_context()
        if work.take(context.topic, context.partition, context.offset, None, value):
            os._exit(0)
        return value

    for name in topics:
        topic = app.topic(name, value_deserializer="bytes", key_deserializer="bytes")
        app.dataframe(topic).apply(each)
    work.start()
    app.run()


def run_bytewax(work: Work, bootstrap: str, topics: Sequence[str], group: str, directory: str) -> None:
    """A Bytewax dataflow: Kafka source, map, sink."""
    import bytewax.operators as op  # noqa: PLC0415
    from bytewax.connectors.kafka import KafkaSource  # noqa: PLC0415
    from bytewax.dataflow import Dataflow  # noqa: PLC0415
    from bytewax.testing import TestingSink, run_main  # noqa: PLC0415

    def each(message: Any) -> None:
        if work.take(message.topic, message.partition, message.offset, message.key, message.value):
            os._exit(0)

    flow = Dataflow("bench")
    source = KafkaSource(bootstrap.split(","), list(topics), starting_offset=0, batch_size=_BATCH)
    stream = op.input("in", flow, source)
    op.output("out", op.filter_map("each", stream, each), TestingSink([]))
    work.start()
    run_main(flow)


def decode_rate(messages: Sequence[Message]) -> tuple[float, float]:
    """Bare `msgspec` decode of the same bytes: the limit of any system in this language."""
    jobs = [message.value for message in messages if message.topic == JOBS]
    results = [message.value for message in messages if message.topic == RESULTS]
    cpu, began = time.process_time(), time.monotonic()
    for value in jobs:
        decode._JOB.decode(value)
    for value in results:
        decode._RESULT.decode(value)
    spent, took = time.process_time() - cpu, time.monotonic() - began
    return len(messages) / spent, len(messages) / took


def opening_messages(count: int) -> list[Message]:
    """The records of `count` runs that have begun and not ended: submitted, admitted, routed, started, one result."""
    traffic = Traffic(SCENARIOS["steady"], seed=2, start=time.time(), rate=20_000)
    left_out = (b'{"type":"completed"', b'{"type":"decision"', b'{"type":"review"', b'{"type":"cost"')
    return [message for message in traffic.runs(count) if not message.value.startswith(left_out)]


def memory(count: int) -> dict[str, Any]:
    """Resident bytes that `count` open runs add to a process."""
    stage = RunStage(load_catalog(), load_policy(), 1)
    messages = opening_messages(min(count, _TEMPLATE))
    each = len(messages) // min(count, _TEMPLATE)
    _feed(stage, messages)
    before, begun = _resident_bytes(), len(stage.runs)
    for first in range(0, count, _TEMPLATE):
        # The same runs under new names: making a million of them one by one would take longer than all the rest.
        name = b'"run_id":"%d.' % first
        renamed = (message._replace(value=message.value.replace(b'"run_id":"', name)) for message in messages)
        _feed(stage, list(islice(renamed, each * (count - first))))
    return {"count": len(stage.runs) - begun, "resident_bytes": _resident_bytes() - before}


def _feed(stage: RunStage, messages: list[Message]) -> None:
    for topic in (JOBS, RESULTS):
        records = [
            Record(offset, 0, message.key, message.value)
            for offset, message in enumerate(message for message in messages if message.topic == topic)
        ]
        stage.apply(Batch(topic, 0, 0, len(records), records))


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def main() -> None:
    """`python -m app.bench.peers NAME ...`: prints one line of JSON."""
    logging.disable(logging.WARNING)
    if sys.argv[1] == "memory":
        sys.stdout.write(msgspec.json.encode({"bench": memory(int(sys.argv[2]))}).decode() + "\n")
        return
    name, bootstrap, topics, group, events, directory = sys.argv[1:]
    runners = {"faust": run_faust, "quixstreams": run_quixstreams, "bytewax": run_bytewax}
    runners[name](Work(int(events)), bootstrap, topics.split(","), group, directory)


if __name__ == "__main__":
    main()
