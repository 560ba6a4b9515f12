"""The pager as a process: alerts of the processor to every Alertmanager, notifications back into incidents."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from app import kafka
from app.catalog import load_catalog
from app.conventions import ALERTS, DIRECTIVES, INCIDENTS, PAGER_ALERT, WATCHDOG_SILENT_ALERT
from app.core.catalog import Alerting
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.incidents import Act, Incidents
from app.core.outcomes import Alert
from app.core.paging import RESEND_SECONDS, Book
from app.directives import Directives
from app.follow import Follow, FollowCollector
from app.paging import capture
from app.paging.alertmanager import Alertmanager
from app.paging.desk import Desk
from app.paging.http import application
from app.paging.metrics import PagerCollector
from app.paging.records import Records, about_runs
from app.paging.runpage import TOPICS, RunPages
from app.serving import (
    build_info,
    forever,
    listening,
    own_directory,
    quiet_libraries,
    registry_of,
    secret,
    serve,
    told_to_stop,
)
from app.settings import Settings, urls

log = logging.getLogger("qethics.pager")

_LOOK_SECONDS: Final = 1.0
#: How long a page of a run may take.
_PAGE_SECONDS: Final = 10.0


def run_pager(settings: Settings) -> None:
    """Run one pager until it is told to stop.

    Raises
    ------
    QethicsError
        If it cannot begin; the error says why and what to do.
    """
    quiet_libraries(settings.log_level)
    alerting = load_catalog(settings.policies).alerting
    token = secret(settings.pager_token_file, "pager_token_file")
    with listening(settings.pager_host, settings.pager_port, "pager_port") as listener:
        directory = own_directory(settings.data_directory / "incidents")
        asyncio.run(_Pager(settings, alerting, listener, token, directory).run())


class _Pager:
    """One pager process: what it holds, in the order it is started."""

    def __init__(
        self, settings: Settings, alerting: Alerting, listener: socket.socket, token: bytes | None, directory: Path
    ) -> None:
        self._settings = settings
        self._alerting = alerting
        self._listener = listener
        self._token = token
        self._directory = directory
        self._book = Book(settings.runbooks_url)
        self._clients: list[Alertmanager] = []
        self._unreadable = 0

    async def run(self) -> None:
        """Start everything, wait, stop everything."""
        stop = told_to_stop()
        settings = self._settings
        await kafka.ensure_topics(settings)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            producer = await kafka.opened(stack, kafka.producer(settings), settings)
            reader = await kafka.opened(stack, kafka.consumer(settings), settings)
            orders = await kafka.opened(stack, kafka.consumer(settings), settings)
            directives = Directives(orders, settings.topic(DIRECTIVES), settings.partitions)
            desk = self._desk(session, producer, directives)
            topics = {settings.topic(ALERTS): self._alert, settings.topic(INCIDENTS): self._act(desk.incidents)}
            follow = Follow(reader, list(topics), settings.partitions, lambda record: topics[record.topic](record))
            generator = f"http://{settings.pager_host}:{self._listener.getsockname()[1]}/"
            creator = f"qethics {settings.topic_prefix}{settings.group}"
            self._clients = [
                Alertmanager(url, session, self._book, generator, creator) for url in urls(settings.alertmanagers)
            ]
            stack.push_async_callback(await self._serve(desk, follow))
            tasks = [forever(follow.run()), forever(directives.run())]
            # What fires is known once everything was read; sent before, a long resolved alert would ring again.
            await asyncio.wait([asyncio.ensure_future(stop.wait()), asyncio.ensure_future(follow.read.wait())],
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
            desk.watchdog_at = desk.watchdog_at or time.time()  # Prometheus may have been dead before us
            tasks += [forever(client.run()) for client in self._clients]
            tasks += [forever(client.run_maintenance(self._alerting.maintenance)) for client in self._clients]
            tasks += [forever(self._own_alerts(desk)), forever(desk.run())]
            await stop.wait()
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _desk(self, session: aiohttp.ClientSession, producer: AIOKafkaProducer, directives: Directives) -> Desk:
        settings = self._settings

        async def active(incident: Any) -> capture.Partly:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAGE_SECONDS):
                    await directives.known()
            return capture.Partly(directives.active(), directives.not_ready() or "")

        async def firing(incident: Any) -> Any:
            return list(self._book.firing())

        async def keep(act: Act) -> None:
            topic, key = settings.topic(INCIDENTS), act.key.encode()
            await producer.send_and_wait(topic, msgspec.json.encode(act), key=key)

        workers, affected = urls(settings.worker_urls), capture.once(capture.affected_runs(settings))
        captured = capture.Capture(
            self._directory,
            {
                "affected.json": affected,
                "runs.json": capture.runs(settings, affected),
                "directives.json": active,
                "alerts.json": firing,
                "workers.json": capture.page_of(session, workers, "/status.json"),
                "detectors.json": capture.page_of(session, workers, "/detectors.json"),
                "metrics.json": capture.metrics_around(session, settings.prometheus_url.rstrip("/")),
            },
        )
        return Desk(Incidents(), keep, captured)

    def _alert(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            changed = self._book.take(msgspec.json.decode(record.value, type=Alert))
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            self._unreadable += 1
            log.error("an alert that cannot be read: %s: %r", error, record.value[:200])
            return
        if changed:
            self._wake()

    def _act(self, incidents: Incidents) -> Callable[[Any], None]:
        def take(record: Any) -> None:
            if record.value is None:
                return
            try:
                incidents.take(msgspec.json.decode(record.value, type=Act))
            except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
                self._unreadable += 1
                log.error("an act that cannot be read: %s: %r", error, record.value[:200])

        return take

    def _wake(self) -> None:
        for client in self._clients:
            client.wake.set()

    async def _own_alerts(self, desk: Desk) -> None:
        """What the pager itself says: that it lives, and that Prometheus does not.

        Both are leases like any other. They follow from no record and are not written to the topic: a pager that is
        started again says them anew.
        """
        said = 0.0
        while True:
            now = time.time()
            if now - said >= RESEND_SECONDS / 2:
                said = now
                self._book.take(_own(PAGER_ALERT, "none", "firing", now, "the pager reaches this Alertmanager"))
            silent = desk.watchdog_at is not None and now - desk.watchdog_at > self._settings.watchdog_seconds
            text = "Prometheus' watchdog does not come through any more: its alerts do not either"
            known = any(each.labels["alertname"] == WATCHDOG_SILENT_ALERT for each in self._book.firing())
            if silent != known:
                status = "firing" if silent else "resolved"
                self._book.take(_own(WATCHDOG_SILENT_ALERT, "page", status, now, text))
                self._wake()
            self._book.forget(now)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _serve(self, desk: Desk, follow: Follow) -> Callable[[], Any]:
        clients, unreadable, read_at = lambda: self._clients, lambda: self._unreadable, lambda: follow.read_at
        followed = FollowCollector(follow, self._settings.topic_prefix)
        registry = registry_of(PagerCollector(self._book, clients, desk, unreadable, read_at, build_info()), followed)
        settings = self._settings

        async def find(run_id: str, since: float, until: float) -> Records:
            found = await about_runs(settings, TOPICS, [run_id], since=since, until=until, seconds=_PAGE_SECONDS)
            return found[run_id]

        runs = RunPages(find, settings.grafana_url, settings.topic_prefix)
        pages = application(desk, registry, self._token, follow.read.is_set, runs)
        stop = await serve(pages, self._listener)
        log.info("the pager answers at http://%s:%d/", *self._listener.getsockname()[:2])
        return stop


def _own(name: str, severity: str, status: str, now: float, text: str) -> Alert:
    return Alert(
        alert_id=outcome_id("alert", name, f"{now:.3f}"),
        fingerprint=outcome_id("condition", name),
        name=name,
        severity=severity,
        status=status,
        at=instant(now),
        labels={},
        summary=text,
        figures={},
    )
