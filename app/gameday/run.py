"""`qethics gameday`: every failure mode over steady traffic, beside the real Prometheus and Alertmanager, with a score.

Broker, worker, pager, Prometheus and Alertmanager run as they are shipped; what is changed is where they listen, and
for the embedded broker's sake how many partitions there are and how often checkpoints are written. Time is from the
first bad event to the alert in Alertmanager's own API.
"""

import asyncio
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from app import kafka
from app.broker import embedded_broker, free_port
from app.catalog import DEFAULT_DIRECTORY
from app.conventions import DIRECTIVES, REPLAY_REQUESTS
from app.core.outcomes import Directive, ReplayRequest
from app.follow import Follow
from app.gameday import panels
from app.gameday.history import backfill
from app.gameday.servers import alertmanager, prometheus
from app.gameday.watch import Sighting, Watcher
from app.process import ServiceProcess
from app.rules import files
from app.settings import Settings, load
from app.unreadable import UNREADABLE
from simulators.scenarios import FAILURES, SCENARIOS, Scenario, Seen
from simulators.traffic import Message, Traffic

Say = Callable[[str], None]
_Said = TypeVar("_Said")

#: What detectors and burn rates learn from before anything is played.
WARM_UP_SECONDS: Final = 150.0
#: The order of a whole day. A device that was bad makes replays diverge for some minutes after, so F2 comes last.
ALL: Final = ("F6", "F1", "F3", "F4", "F5", "F2")
#: Replays come so long after they were asked for.
_REPLAY_SECONDS: Final = 0.5
#: The embedded broker looks through every batch that a partition holds at each fetch, so what makes it slow is their
#: number: with four partitions and slices of 50 ms it took a whole core after two minutes, and was half a second late
#: after fourteen. So traffic goes out in slices, to as few partitions as show that a cause is one across partitions,
#: and checkpoints are written more rarely than shipped: their pieces and manifests are batches too.
_SPARING: Final = {"partitions": 2, "checkpoint_seconds": 10.0}
_SLICE_SECONDS: Final = 0.4
_LINGER_MILLISECONDS: Final = 5
_EVENTS_OF_A_RUN: Final = 9
#: What follows from a failure comes within this time: runs that lack something close after a minute, rules look back
#: over one or two more.
_FOLLOWS_SECONDS: Final = 240.0
#: What it takes to solve the physics, before the first run can begin.
_SOLVING_SECONDS: Final = 5.0


def run(
    names: Sequence[str],
    *,
    rate: float,
    seed: int,
    steady_seconds: float,
    spacing_seconds: float,
    recovery_seconds: float,
    say: Say,
    bootstrap: str | None = None,
) -> dict[str, Any]:
    """Play failures and return the scoreboard.

    Parameters
    ----------
    names
        F1 to F6, in the order they are played (`ALL` for all).
    rate
        Events a second.
    seed
        Of everything random.
    steady_seconds
        For so long nothing is played at first, and nobody must be told anything.
    spacing_seconds
        Between the beginnings of two failures: the next is not taken for the one before.
    recovery_seconds
        After the last, until all has ended, at most: conditions end after five quiet minutes, rules look back further.
    say
        Shows progress.
    bootstrap
        A Kafka to play on, in topics of its own that stay there, reached as the settings in the environment say (of
        these nothing else is taken over); the embedded broker without.

    Raises
    ------
    QethicsError
        If something that it needs is not there or does not run.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qethics-gameday-")))
        broker = stack.enter_context(embedded_broker() if bootstrap is None else nullcontext(bootstrap))
        ports = {"web_port": free_port(), "pager_port": free_port()}
        watcher_port = free_port()
        pager_url = f"http://127.0.0.1:{ports['pager_port']}"
        hook = f"- url: {pager_url}/v1/alertmanager\n        send_resolved: true\n      "
        hook += f"- url: http://127.0.0.1:{watcher_port}/"
        told = alertmanager(directory, {"- url: http://127.0.0.1:6068/v1/alertmanager": hook})
        rules = prometheus(
            directory,
            {
                "127.0.0.1:6066": f"127.0.0.1:{ports['web_port']}",
                "127.0.0.1:6068": f"127.0.0.1:{ports['pager_port']}",
                "127.0.0.1:9093": told.url.removeprefix("http://"),
            },
        )
        say("three healthy days are put into Prometheus")
        runs_per_second = rate / _EVENTS_OF_A_RUN
        backfill(files.load(DEFAULT_DIRECTORY / "slos.yaml"), runs_per_second, time.time(), directory / "tsdb")
        unique = f"gameday-{int(time.time())}"
        settings = load(
            {},
            **({"bootstrap": broker, **_SPARING} if bootstrap is None else load(bootstrap=broker).connection()),
            group=unique,
            topic_prefix=f"{unique}.",
            data_directory=directory,
            alertmanagers=told.url,
            prometheus_url=rules.url,
            worker_urls=f"http://127.0.0.1:{ports['web_port']}",
            runbooks_url=f"{pager_url}/runbooks",
            **ports,
        )
        for server in (told, rules):
            stack.callback(server.stop)
            server.start()
        processes = [ServiceProcess(settings, directory / f"{name}.log", name) for name in ("worker", "pager")]
        for process in processes:
            stack.callback(process.stop)
        for process in processes:
            process.await_ready()
        say("broker, worker, pager, Prometheus and Alertmanager run")
        watcher = Watcher(told.url, watcher_port)
        day = _Day(
            settings,
            rules.url,
            watcher,
            processes,
            Traffic(SCENARIOS["healthy"], seed=seed, start=time.time(), rate=rate),
            say,
        )
        failures = [FAILURES[name] for name in names]
        return asyncio.run(day.run(failures, steady_seconds, spacing_seconds, recovery_seconds))


class _Day:
    """One game day."""

    def __init__(
        self,
        settings: Settings,
        prometheus_url: str,
        watcher: Watcher,
        processes: Sequence[ServiceProcess],
        traffic: Traffic,
        say: Say,
    ) -> None:
        self._settings = settings
        self._prometheus_url = prometheus_url
        self._watcher = watcher
        self._processes = processes
        self._traffic = traffic
        self._say = say
        self._replays: list[tuple[float, ReplayRequest]] = []
        self._orders: list[tuple[float, Directive]] = []
        self._sent = 0
        self._tasks: Sequence[asyncio.Future[None]] = ()

    async def run(
        self, failures: Sequence[Scenario], steady_seconds: float, spacing_seconds: float, recovery_seconds: float
    ) -> dict[str, Any]:
        settings = self._settings
        producer = await kafka.connected(kafka.producer(settings, linger_ms=_LINGER_MILLISECONDS), settings)
        reader = await kafka.connected(kafka.consumer(settings), settings)
        topics = {settings.topic(REPLAY_REQUESTS): self._asked, settings.topic(DIRECTIVES): self._ordered}
        follow = Follow(reader, list(topics), settings.partitions, lambda record: topics[record.topic](record))
        runner = await self._watcher.serve()
        tasks = [asyncio.ensure_future(work) for work in (self._watcher.run(), follow.run(), self._publish(producer))]
        self._tasks = tasks
        try:
            began = time.time()
            await self._wait("learning", WARM_UP_SECONDS)
            await self._wait("steady", max(0.0, steady_seconds - WARM_UP_SECONDS))
            steady = self._watcher.since(began, time.time())
            played = []
            for failure in failures:
                played.append(await self._play(failure, spacing_seconds))
            await self._recover(recovery_seconds)
            played[-1] = (*played[-1][:2], time.time())  # what comes late is of the last one
            asked = sum(1 for _ in panels.queries())
            empty = await asyncio.to_thread(panels.without_data, self._prometheus_url, began, time.time())
            return {
                **self._scoreboard(played, steady, time.time() - began),
                "topic_prefix": settings.topic_prefix,
                "panel_queries": asked,
                "panel_queries_without_data": empty,
                "bundles_lack": await asyncio.to_thread(_lacking, settings.data_directory / "incidents"),
            }
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()
            await reader.stop()
            await producer.stop()

    # -- traffic -----------------------------------------------------------------------------------------------------

    async def _publish(self, producer: Any) -> None:
        """Publish what traffic there is, each record at its time, and the replays that were asked for."""
        topic = self._settings.topic
        for message in self._messages():
            while message.at > time.time():
                await asyncio.sleep(_SLICE_SECONDS)
            await producer.send(topic(message.topic), message.value, key=message.key, headers=[*message.headers])
            self._sent += 1

    def _messages(self) -> Iterator[Message]:
        for message in self._traffic.for_seconds(1e9):
            while self._replays and self._replays[0][0] <= message.at:
                at, request = self._replays.pop(0)
                yield from self._traffic.replay(
                    request.run_id, request.workload or "", request.backend or "", at=max(at, message.at - 1)
                )
            yield message

    def _asked(self, record: Any) -> None:
        if (request := _read(record, ReplayRequest)) is not None:
            self._replays.append((time.time() + _REPLAY_SECONDS, request))

    def _ordered(self, record: Any) -> None:
        if (order := _read(record, Directive)) is not None:
            self._orders.append((time.time(), order))

    # -- the course of the day ---------------------------------------------------------------------------------------

    async def _play(self, failure: Scenario, spacing_seconds: float) -> tuple[Seen, float, float]:
        """Let a failure happen for its time; what it is, its first bad event, and when the next may begin."""
        seen = failure.seen
        assert seen is not None  # noqa: S101 - `FAILURES` has no others
        began = self._traffic.play(failure)
        await self._wait(f"{seen.failure}: {failure.text}", seen.lasts_seconds)
        self._traffic.play(SCENARIOS["healthy"])
        await self._wait(f"{seen.failure}: over, watching", spacing_seconds - seen.lasts_seconds)
        return seen, began, time.time()

    async def _recover(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._watcher.now():
            names = sorted({each.name for each in self._watcher.now()})
            await self._wait(f"recovering: {', '.join(names)}", 1.0)

    async def _wait(self, what: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for process in self._processes:
                process.check()
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise RuntimeError("what never ends has ended")
            names = sorted({each.name for each in self._watcher.now() if each.active})
            self._say(f"{what} ({left:.0f} s), {self._sent} events, alerts: {', '.join(names) or 'none'}")
            await asyncio.sleep(min(1.0, left))

    # -- the scoreboard ----------------------------------------------------------------------------------------------

    def _scoreboard(
        self, played: Sequence[tuple[Seen, float, float]], steady: Sequence[Sighting], seconds: float
    ) -> dict[str, Any]:
        still = {(each.name, each.labels) for each in self._watcher.now()}
        return {
            "scenarios": sorted((self._score(each, played, still) for each in played), key=lambda row: row["id"]),
            "steady_alerts": len(steady),
            "steady": [_named(each) for each in steady],
            "events": self._sent,
            "seconds": round(seconds, 1),
        }

    def _score(
        self, one: tuple[Seen, float, float], played: Sequence[tuple[Seen, float, float]], still: set[Any]
    ) -> dict[str, Any]:
        seen, began, until = one
        sighted = self._watcher.since(began, until)
        of_it = sorted((each for each in sighted if each.name == seen.alert), key=lambda each: each.first_at)
        rightly = {seen.alert, *seen.also}
        false = [each for each in sighted if each.active and not _explained(each, played)]
        # The severity that the contract asks for must be there; a worse one beside it may.
        fitting = [each for each in of_it if each.severity == seen.severity]
        orders = [order for at, order in self._orders if began <= at < until and order.directive == seen.directive]
        follows = [each for each in sighted if each.name in rightly]
        return {
            "id": seen.failure,
            "alert": seen.alert,
            "detected": bool(of_it),
            "seconds": round((fitting or of_it)[0].first_at - began, 2) if of_it else None,
            "within": bool(fitting) and fitting[0].first_at - began <= seen.within_seconds,
            "within_seconds": seen.within_seconds,
            "severity": sorted({each.severity for each in of_it}),
            "severity_ok": bool(fitting),
            "directive": seen.directive,
            "directive_ok": seen.directive is None or bool(orders),
            "resolved": bool(follows) and not any((each.name, each.labels) in still for each in follows),
            "false_alerts": len(false),
            "false": [_named(each) for each in false],
            "alerts": sorted({each.name for each in sighted}),
            "page_groups": len(self._watcher.groups(began, until, "page")),
        }


def _read(record: Any, kind: type[_Said]) -> _Said | None:
    """What a record says; None if it says nothing, or something else."""
    try:
        return msgspec.json.decode(record.value or b"", type=kind)
    except UNREADABLE:
        return None


def _lacking(directory: Path) -> dict[str, list[str]]:
    """The bundle of each incident that was opened -> the sources that it lacks."""
    found = {}
    for path in sorted(directory.glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            manifest = archive.extractfile("manifest.json")
            found[path.name] = sorted(json.load(manifest)["missing"]) if manifest is not None else ["manifest.json"]
    return found


def _explained(each: Sighting, played: Sequence[tuple[Seen, float, float]]) -> bool:
    """Whether an alert follows from a failure that began shortly before it."""
    return any(
        each.name in {seen.alert, *seen.also} and 0 <= each.first_at - began <= _FOLLOWS_SECONDS
        for seen, began, _ in played
    )


def _named(each: Sighting) -> dict[str, Any]:
    return {"alert": each.name, "severity": each.severity, "labels": dict(each.labels), "at": each.first_at}


def good(report: dict[str, Any]) -> bool:
    """Whether everything was seen in time, nothing else was, and all of it ended."""
    wanted = ("detected", "within", "severity_ok", "directive_ok", "resolved")
    if any(report["bundles_lack"].values()):
        return False
    if report["panel_queries_without_data"] and len(report["scenarios"]) == len(ALL):
        return False  # of a part of the failures some panels show nothing, rightly
    return not report["steady_alerts"] and all(
        all(row[name] for name in wanted) and not row["false_alerts"] for row in report["scenarios"]
    )


def table(report: dict[str, Any]) -> str:
    """The scoreboard for people."""
    marks = {True: "yes", False: "NO"}
    columns = ("", "alert", "seen", "seconds", "of", "severity", "directive", "ended", "false")
    rows = [
        (
            row["id"],
            row["alert"],
            marks[row["detected"]],
            "-" if row["seconds"] is None else f"{row['seconds']:.1f}",
            f"{row['within_seconds']:.0f}",
            marks[row["severity_ok"]],
            marks[row["directive_ok"]],
            marks[row["resolved"]],
            str(row["false_alerts"]),
        )
        for row in report["scenarios"]
    ]
    widths = (3, 20, 5, 8, 5, 9, 10, 6, 6)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (columns, *rows)]
    lines.append(f"alerts in steady traffic: {report['steady_alerts']}; {report['events']:,} events")
    empty = report["panel_queries_without_data"]
    named = "".join(f"; none for {each['dashboard']} / {each['panel']} / {each['ref']}" for each in empty)
    lines.append(
        f"queries of dashboards with data: {report['panel_queries'] - len(empty)} of {report['panel_queries']}{named}"
    )
    lacking = "".join(f"; {name} lacks {', '.join(what)}" for name, what in report["bundles_lack"].items() if what)
    lines.append(f"bundles of evidence: {len(report['bundles_lack'])}{lacking}")
    return "\n".join(lines)
