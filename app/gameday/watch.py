"""What people are told during a game day: Alertmanager's own API, a webhook, and the directives."""

import asyncio
import json
import time
from typing import Any, Final, NamedTuple

import aiohttp
from aiohttp import web

_LOOK_SECONDS: Final = 0.2
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
#: What always fires, so that its absence is noticed.
_NO_ALERTS: Final = frozenset({"none"})


class Sighting(NamedTuple):
    """An alert as Alertmanager had it: when it was first seen, and when it was last. Seconds since the epoch."""

    name: str
    severity: str
    labels: tuple[tuple[str, str], ...]
    first_at: float
    last_at: float
    #: Whether it was ever active: neither inhibited by another alert nor silenced.
    active: bool


class Watcher:
    """Looks at Alertmanager five times a second, and keeps what it is told over a webhook.

    Parameters
    ----------
    alertmanager
        Its address.
    port
        Where notifications are received.
    """

    def __init__(self, alertmanager: str, port: int) -> None:
        self.sightings: dict[str, Sighting] = {}
        self.notifications: list[tuple[float, dict[str, Any]]] = []
        self._port = port
        self.looked_at = 0.0
        self._url = f"{alertmanager}/api/v2/alerts"

    async def run(self) -> None:
        """Look without end."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                try:
                    async with session.get(self._url) as answer:
                        self._take(await answer.json())
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                    pass  # it is looked at again at once; `looked_at` says since when it did not answer
                await asyncio.sleep(_LOOK_SECONDS)

    def _take(self, alerts: list[dict[str, Any]]) -> None:
        now = self.looked_at = time.time()
        for alert in alerts:
            labels = alert["labels"]
            if labels["severity"] in _NO_ALERTS:
                continue
            key = f"{alert['fingerprint']} {alert['startsAt']}"
            known = self.sightings.get(key)
            is_active = alert["status"]["state"] == "active"
            self.sightings[key] = Sighting(
                labels["alertname"],
                labels["severity"],
                tuple(sorted(labels.items())),
                known.first_at if known is not None else now,
                now,
                is_active or (known is not None and known.active),
            )

    async def serve(self) -> web.AppRunner:
        """Be a receiver of notifications."""

        async def told(request: web.Request) -> web.Response:
            self.notifications.append((time.time(), json.loads(await request.read())))
            return web.Response()

        app = web.Application()
        app.add_routes([web.post("/", told)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        return runner

    def now(self) -> list[Sighting]:
        """What Alertmanager has at this moment."""
        return [each for each in self.sightings.values() if each.last_at >= self.looked_at - _LOOK_SECONDS / 2]

    def since(self, began: float, until: float) -> list[Sighting]:
        """What was first seen in a stretch of time."""
        return [each for each in self.sightings.values() if began <= each.first_at < until]

    def groups(self, began: float, until: float, receiver: str) -> set[str]:
        """The groups that a receiver was notified of as firing in a stretch of time."""
        return {
            told["groupKey"]
            for at, told in self.notifications
            if began <= at < until and told["receiver"] == receiver and told["status"] == "firing"
        }
