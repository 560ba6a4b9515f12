"""`qethics bench pipeline`: the full path from Kafka beside its peers, in one run on one machine.

Every system reads the same records from the same embedded broker: half job events, half results. This project runs as
it does in production: a worker process with checkpoints, sinks, metrics and policy. The peers run the same per-event
functions inside their own framework and write nothing: `app.bench.peers`. CPU seconds are those of the reading process
alone. The systems run in turn, round by round; rates are medians over the rounds, and a comparison is the median of
its rounds' quotients, so that a neighbour who was noisy for a while meets both sides of it.
"""

import asyncio
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from aiokafka.partitioner import DefaultPartitioner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app import kafka
from app.bench import peers
from app.broker import embedded_broker, free_port
from app.conventions import JOBS, RESULTS
from app.errors import EnvironmentFault
from app.process import ServiceProcess
from app.settings import Settings, load
from simulators.scenarios import SCENARIOS
from simulators.traffic import Message, Traffic

#: Circuits of a run: as many results as job events.
RESULTS_PER_RUN: Final = 8
#: Open runs at which the cost of checkpoints and the time of recovery are taken.
CHECKPOINTED_RUNS: Final = 100_000
_TIMEOUT_SECONDS: Final = 300.0
_GOALS: Final = (("faust", 8.0), ("quixstreams", 1.2), ("bytewax", 1.0))

Say = Callable[[str], None]


def run(*, events: int, repeats: int, open_runs: int, say: Say) -> dict[str, Any]:
    """Measure everything.

    Parameters
    ----------
    events
        Records of each run of each system.
    repeats
        Runs of each system.
    open_runs
        Open runs to hold in memory.
    say
        Shows progress.

    Raises
    ------
    EnvironmentFault
        If a peer is not installed.
    """
    missing = [name for name in peers.PEERS if not peers.installed(name)]
    if missing:
        raise EnvironmentFault(f"not installed: {', '.join(missing)}", "run `make install-bench`")
    traffic = Traffic(SCENARIOS["steady"], seed=1, start=time.time(), rate=20_000, results_per_run=RESULTS_PER_RUN)
    messages = traffic.runs(events // (2 * RESULTS_PER_RUN))
    systems = ("qethics", *peers.PEERS)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in (*systems, "decode")}
    for repeat in range(repeats):
        for name in systems:
            say(f"round {repeat + 1} of {repeats}: {name}")
            # A broker of its own for each run: what an earlier one left behind costs the later one nothing.
            with embedded_broker() as bootstrap, tempfile.TemporaryDirectory(prefix="qethics-bench-") as directory:
                settings = _settings(bootstrap, directory)
                asyncio.run(preload(settings, messages))
                measure = _qethics if name == "qethics" else _peer(name)
                figures[name].append(measure(settings, len(messages), Path(directory)))
        figures["decode"].append(peers.decode_rate(messages))
    say(f"{open_runs} open runs")
    memory = _child("memory", str(open_runs), timeout=_TIMEOUT_SECONDS + open_runs / 1_000)
    say("tracing")
    tracing = _tracing(events, repeats, say)
    say("checkpoints")
    return {
        "events": len(messages),
        "bytes_per_event": sum(len(message.value) for message in messages) / len(messages),
        "repeats": repeats,
        "events_per_cpu_second": {name: statistics.median(cpu for cpu, _ in runs) for name, runs in figures.items()},
        "events_per_second": {name: statistics.median(wall for _, wall in runs) for name, runs in figures.items()},
        "ratio": {name: _ratio(figures["qethics"], runs) for name, runs in figures.items()},
        "runs": figures,
        "open_runs": memory,
        "tracing": tracing,
        "checkpoints": _checkpoints(messages, say),
    }


def _ratio(ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> float:
    """The median over the rounds of how much more events a CPU second we make."""
    return statistics.median(mine / other for (mine, _), (other, _) in zip(ours, theirs, strict=True))


def table(report: dict[str, Any]) -> str:
    """The report for a terminal, with the goals beside it."""
    rates, walls = report["events_per_cpu_second"], report["events_per_second"]
    ours = rates["qethics"]
    lines = [
        f"{report['events']} events of {report['bytes_per_event']:.0f} bytes, median of {report['repeats']}",
        f"{'system':12} {'events/CPU-s':>13} {'events/s':>10} {'qethics is':>11}",
    ]
    ratio = report["ratio"]
    lines += [f"{name:12} {rates[name]:13,.0f} {walls[name]:10,.0f} {ratio[name]:10.2f}x" for name in rates]
    goals = [(f"at least {factor}x {name}", ratio[name] >= factor) for name, factor in _GOALS]
    goals.append(("at least 40,000 events/CPU-s", ours >= 40_000))
    goals.append((f"at most 4x the time of bare decode ({1 / ratio['decode']:.1f}x)", ratio["decode"] >= 0.25))
    lines += [f"goal: {text}: {'met' if met else 'MISSED'}" for text, met in goals]
    memory = report["open_runs"]
    lines.append(f"open runs: {memory['count']:,} in {memory['resident_bytes'] / 2**20:,.0f} MiB")
    tracing = report["tracing"]
    lines.append(
        f"tracing costs {tracing['cost_ratio']:.1%} of throughput ({tracing['spans']} spans a round; goal: below 5 %)"
    )
    checkpoints = report["checkpoints"]
    lines.append(
        f"checkpoints at {checkpoints['open_runs']:,} open runs cost {checkpoints['cost_ratio']:.1%} of throughput; "
        f"recovery takes {checkpoints['recovery_seconds']:.1f} s"
    )
    return "\n".join(lines)


def _settings(bootstrap: str, directory: str, **values: Any) -> Settings:
    return load(
        {},
        bootstrap=bootstrap,
        data_directory=directory,
        web_port=free_port(),
        web_host="127.0.0.1",
        topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.",
        group=f"bench-{uuid.uuid4().hex[:8]}",
        session_timeout_seconds=6.0,
        **values,
    )


async def preload(settings: Settings, messages: Sequence[Message]) -> None:
    """Put records into the inputs as fast as it goes, in batches."""
    await kafka.ensure_topics(settings)
    producer = await kafka.connected(kafka.producer(settings, max_batch_size=900_000), settings)
    partition_of = DefaultPartitioner()
    numbers = list(range(settings.partitions))
    batches: dict[tuple[str, int], Any] = {}
    try:
        for message in messages:
            target = message.topic, partition_of(message.key, numbers, numbers)
            batch = batches.get(target)
            if batch is None:
                batch = batches[target] = producer.create_batch()
            headers = list(message.headers)
            if batch.append(key=message.key, value=message.value, timestamp=None, headers=headers) is None:
                await (await producer.send_batch(batch, settings.topic(target[0]), partition=target[1]))
                batch = batches[target] = producer.create_batch()
                batch.append(key=message.key, value=message.value, timestamp=None, headers=headers)
        for (topic, number), batch in batches.items():
            await (await producer.send_batch(batch, settings.topic(topic), partition=number))
    finally:
        await producer.stop()


def _qethics(settings: Settings, events: int, directory: Path, most_open: float = math.inf) -> tuple[float, float]:
    """Events a CPU second and a second of a worker process, from ready to everything taken in."""
    worker = ServiceProcess(settings, directory / "worker.log")
    try:
        cpu, began = _await_ready(worker)
        return _await_taken(worker, events, cpu, began, most_open)
    finally:
        worker.stop()


def _await_ready(worker: ServiceProcess) -> tuple[float, float]:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while worker.get("/readyz") is None:
        worker.check()
        if time.monotonic() > deadline:
            raise EnvironmentFault("the worker was not ready in time", "try again on a quieter machine")
        time.sleep(0.01)
    return _cpu_seconds(worker.process.pid), time.monotonic()


def _await_taken(
    worker: ServiceProcess, events: int, cpu: float, began: float, most_open: float = math.inf
) -> tuple[float, float]:
    """Events a CPU second and a second until all are taken in and no more than `most_open` runs are still open."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        status = worker.status()
        taken = sum(status.get(name, 0) for name in ("events_applied", "duplicates", "dead_letters"))
        read = taken >= events and status["lag"] <= 3 * len(status["partitions"])  # heartbeats are always coming
        if read and status["open_runs"] <= most_open:
            took, spent = time.monotonic() - began, _cpu_seconds(worker.process.pid) - cpu
            return events / spent, events / took
        if time.monotonic() > deadline:
            raise EnvironmentFault(f"the worker did not take in {events} events in time", "try fewer --events")
        time.sleep(0.1)


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far, user and system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peer(name: str) -> Callable[[Settings, int, Path], tuple[float, float]]:
    def measure(settings: Settings, events: int, directory: Path) -> tuple[float, float]:
        topics = f"{settings.topic(JOBS)},{settings.topic(RESULTS)}"
        arguments = (name, settings.bootstrap, topics, settings.group, str(events), str(directory))
        figures = _child(*arguments)
        return events / figures["cpu_seconds"], events / figures["seconds"]

    return measure


def _child(*arguments: str, timeout: float = _TIMEOUT_SECONDS) -> dict[str, Any]:
    """The figures that a child process of `app.bench.peers` prints as its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "app.bench.peers", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"bench"')]
    if not lines:
        raise EnvironmentFault(f"{arguments[0]} gave no figures: {done.stderr[-800:]}", "run it by itself to see why")
    figures: dict[str, Any] = json.loads(lines[-1])["bench"]
    return figures


def _tracing(events: int, repeats: int, say: Say) -> dict[str, Any]:
    """What it costs to trace: records that name their traces, with a collector beside and without, in turn.

    A run is traced when it closes, so a round ends when all runs that lack nothing have closed.
    """
    traffic = Traffic(
        SCENARIOS["steady"], seed=1, start=time.time(), rate=20_000, results_per_run=RESULTS_PER_RUN, traced=True
    )
    messages = traffic.runs(events // (2 * RESULTS_PER_RUN))
    most_open = traffic.truth.incomplete_runs
    rates: dict[bool, list[float]] = {False: [], True: []}
    spans = 0
    with _collector() as (endpoint, received):
        for repeat in range(repeats):
            for traced in (False, True):
                say(f"tracing {'on' if traced else 'off'}, round {repeat + 1} of {repeats}")
                received.clear()
                with embedded_broker() as bootstrap, tempfile.TemporaryDirectory(prefix="qethics-bench-") as directory:
                    settings = _settings(bootstrap, directory, otlp_endpoint=endpoint if traced else "")
                    asyncio.run(preload(settings, messages))
                    rates[traced].append(_qethics(settings, len(messages), Path(directory), most_open)[0])
                spans = len(received) if traced else spans
    ratios = [one / other for one, other in zip(rates[True], rates[False], strict=True)]
    return {
        "events_per_cpu_second_without": statistics.median(rates[False]),
        "events_per_cpu_second_with": statistics.median(rates[True]),
        "cost_ratio": 1 - statistics.median(ratios),
        "rounds": ratios,
        "spans": spans,
    }


@contextmanager
def _collector() -> Iterator[tuple[str, list[str]]]:
    """A collector of spans that keeps their names: its address, and what it has."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                received.extend(span.name for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Requests are not worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", received
    finally:
        server.shutdown()
        server.server_close()


def _checkpoints(messages: Sequence[Message], say: Say) -> dict[str, Any]:
    """What checkpoints cost while many runs are open, and how long recovery of them takes."""
    opened = peers.opening_messages(CHECKPOINTED_RUNS)
    rates: dict[bool, float] = {}
    recovery = 0.0
    for with_checkpoints in (False, True):
        say(f"checkpoints {'on' if with_checkpoints else 'off'}")
        with embedded_broker() as bootstrap, tempfile.TemporaryDirectory(prefix="qethics-bench-") as directory:
            settings = _settings(bootstrap, directory, checkpoint_seconds=2.0 if with_checkpoints else 3600.0)
            asyncio.run(preload(settings, opened))
            worker = ServiceProcess(settings, Path(directory) / "worker.log")
            try:
                _await_taken(worker, len(opened), *_await_ready(worker))
                cpu, began = _cpu_seconds(worker.process.pid), time.monotonic()
                asyncio.run(preload(settings, messages))
                rates[with_checkpoints], _ = _await_taken(worker, len(opened) + len(messages), cpu, began)
                rates[with_checkpoints] *= len(messages) / (len(opened) + len(messages))
                if with_checkpoints:
                    time.sleep(5)
                    worker.process.send_signal(signal.SIGKILL)
                    worker.process.wait()
                    began = time.monotonic()
                    worker = ServiceProcess(settings, Path(directory) / "worker.log")
                    _await_ready(worker)
                    recovery = worker.status()["restored_seconds"]
            finally:
                worker.stop()
    return {
        "open_runs": CHECKPOINTED_RUNS,
        "events_per_cpu_second_without": rates[False],
        "events_per_cpu_second_with": rates[True],
        "cost_ratio": 1 - rates[True] / rates[False],
        "recovery_seconds": recovery,
    }
