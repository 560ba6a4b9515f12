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
from app.access import Access, access, bearer
from app.catalog import load_catalog
from app.conventions import ALERTS, DIRECTIVES, INCIDENTS, PAGER_ALERT, WATCHDOG_SILENT_ALERT
from app.core.catalog import Alerting
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.incidents import Act, Incidents
from app.core.outcomes import Alert
from app.core.paging import RESEND_SECONDS, Book
from app.core.telling import Telling
from app.directives import Directives
from app.follow import Follow, FollowCollector
from app.paging import capture
from app.paging.alertmanager import Alertmanager
from app.paging.desk import Desk
from app.paging.http import application
from app.paging.metrics import PagerCollector
from app.paging.records import Records, about_runs
from app.paging.runpage import TOPICS, RunPages
from app.paging.told import ToldFile
from app.serving import (
    build_info,
    forever,
    listening,
    own_directory,
    quiet_libraries,
    registry_of,
    serve,
    told_to_stop,
)
from app.settings import Settings, urls
from app.unreadable import UNREADABLE, said_of

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
    with listening(settings.pager_host, settings.pager_port, "pager_port") as listener:
        allowed = access(settings, "pager", listener)
        directory = own_directory(settings.data_directory / "incidents")
        asyncio.run(_Pager(settings, alerting, listener, allowed, directory).run())


class _Pager:
    """One pager process: what it holds, in the order it is started."""

    def __init__(
        self, settings: Settings, alerting: Alerting, listener: socket.socket, allowed: Access, directory: Path
    ) -> None:
        self._settings = settings
        self._alerting = alerting
        self._listener = listener
        self._allowed = allowed
        self._directory = directory
        self._book = Book(settings.runbooks_url)
        self._told = ToldFile(settings.data_directory / "pager-told.json")
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
            generator = f"{self._allowed.scheme}://{settings.pager_host}:{self._listener.getsockname()[1]}/"
            creator = f"qethics {settings.topic_prefix}{settings.group}"
            hold_seconds = {"page": settings.pager_page_hold_seconds, "ticket": settings.pager_ticket_hold_seconds}
            self._clients = [
                Alertmanager(url, session, self._book, Telling(self._told.told, hold_seconds), generator, creator)
                for url in urls(settings.alertmanagers)
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

        affected, token = capture.once(capture.affected_runs(settings)), bearer(settings, "web")

        def of_workers(path: str) -> capture.Source:
            return capture.page_of(session, urls(settings.worker_urls), path, token)

        captured = capture.Capture(
            self._directory,
            {
                "affected.json": affected,
                "runs.json": capture.runs(settings, affected),
                "directives.json": active,
                "alerts.json": firing,
                "workers.json": of_workers("/status.json"),
                "detectors.json": of_workers("/detectors.json"),
                "metrics.json": capture.metrics_around(session, settings.prometheus_url.rstrip("/")),
            },
        )
        return Desk(Incidents(), keep, captured)

    def _alert(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            changed = self._book.take(msgspec.json.decode(record.value, type=Alert), time.time())
        except UNREADABLE as error:
            self._unreadable += 1
            log.error("an alert that cannot be read: %s: %r", said_of(error), record.value[:200])
            return
        if changed:
            self._wake()

    def _act(self, incidents: Incidents) -> Callable[[Any], None]:
        def take(record: Any) -> None:
            if record.value is None:
                return
            try:
                incidents.take(msgspec.json.decode(record.value, type=Act))
            except UNREADABLE as error:
                self._unreadable += 1
                log.error("an act that cannot be read: %s: %r", said_of(error), record.value[:200])

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
            self._told.keep({each.fingerprint for each in self._book.leases()})
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
        allowed = self._allowed
        pages = application(desk, registry, allowed.token, follow.read.is_set, runs, allowed.hosts)
        stop = await serve(pages, self._listener, allowed.certificate)
        log.info("the pager answers at %s://%s:%d/", allowed.scheme, *self._listener.getsockname()[:2])
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
