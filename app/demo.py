"""`qethics demo`: an embedded broker, a real worker process, the load generator or a file, and a summary."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from app import kafka
from app.adapters import read
from app.broker import embedded_broker, free_port
from app.errors import EnvironmentFault
from app.process import ServiceProcess
from app.publish import publish
from app.settings import Settings, load
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

_DRAIN_SECONDS: Final = 60.0
#: How long runs that lack nothing take to close, with the clock's own resolution.
_SETTLE_SECONDS: Final = 12.0

Say = Callable[[str], None]


@contextmanager
def _worker(settings: Settings, log: Path) -> Iterator[ServiceProcess]:
    worker = ServiceProcess(settings, log)
    try:
        yield worker
    finally:
        worker.stop()


def run(*, seconds: float, rate: float, scenario: str, seed: int, source: Path | None, say: Say) -> dict[str, Any]:
    """Run the demo and return its summary.

    Parameters
    ----------
    seconds, rate, scenario, seed
        Of the load generator; `rate` in events a second.
    source
        A file of native results to publish instead.
    say
        Shows progress.

    Raises
    ------
    QethicsError
        If the broker or the worker cannot run, or the file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="qethics-demo-") as directory, embedded_broker() as bootstrap:
        settings = load(
            {},
            bootstrap=bootstrap,
            web_port=free_port(),
            web_host="127.0.0.1",
            session_timeout_seconds=6.0,
            data_directory=directory,
        )
        say(f"embedded broker at {bootstrap}, status page at http://127.0.0.1:{settings.web_port}/")
        with _worker(settings, Path(directory) / "worker.log") as worker:
            worker.await_ready()
            say("worker ready")
            return asyncio.run(_play(worker, settings, seconds, rate, scenario, seed, source, say))


async def _play(
    worker: ServiceProcess,
    settings: Settings,
    seconds: float,
    rate: float,
    scenario: str,
    seed: int,
    source: Path | None,
    say: Say,
) -> dict[str, Any]:
    producer = await kafka.connected(kafka.producer(settings, linger_ms=5), settings)
    traffic = None if source else Traffic(SCENARIOS[scenario], seed=seed, start=time.time(), rate=rate)
    messages = read(source) if source else traffic.for_seconds(seconds) if traffic else iter(())
    began = time.monotonic()
    try:
        sent = await publish(producer, messages, settings.topic, paced=source is None, progress=_progress(say, seconds))
    finally:
        await producer.stop()
    took = time.monotonic() - began
    say(f"{sent} events published in {took:.1f} s; waiting for the worker to take them in")
    summary = await _drained(worker, sent, traffic.truth.incomplete_runs if traffic else None)
    taken = summary["events_applied"] + summary["duplicates"] + summary["dead_letters"]
    return {
        "events_in": sent,
        **summary,
        "complete": taken == sent and summary["lag"] == 0,
        "seconds": took,
        "scenario": None if source else scenario,
        "source": str(source) if source else None,
        "truth": _truth(traffic) if traffic else None,
    }


def _progress(say: Say, seconds: float) -> Callable[[int], None]:
    began = last = time.monotonic()

    def progress(sent: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1:
            last = now
            say(f"{now - began:3.0f} of {seconds:.0f} s: {sent} events")

    return progress


async def _drained(worker: ServiceProcess, sent: int, incomplete: int | None) -> dict[str, Any]:
    """The status once everything sent is taken in and runs that lack nothing have closed; or after the time for it."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    settled = None
    while True:
        await asyncio.sleep(0.2)
        status = worker.status()
        now = time.monotonic()
        if status:
            taken = status["events_applied"] + status["duplicates"] + status["dead_letters"]
            # Heartbeats are always coming, so a lag of a few records is none.
            done = (
                taken >= sent
                and status["observations"] >= status["results_applied"]
                and status["lag"] <= 3 * len(status["partitions"])
            )
            if done:
                settled = settled or now
                if incomplete is None or status["open_runs"] <= incomplete or now - settled > _SETTLE_SECONDS:
                    status["lag"] = max(0, sent - taken)
                    return status
        if now > deadline:
            if not status:
                raise EnvironmentFault("the worker does not answer", "try again on a quieter machine")
            return status


def _truth(traffic: Traffic) -> dict[str, Any]:
    truth = traffic.truth
    return {name: getattr(truth, name) for name in truth.__struct_fields__}
