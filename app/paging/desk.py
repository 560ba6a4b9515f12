"""Where incidents are kept: what is told and done becomes acts, each on record before it counts."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiokafka.errors import KafkaError

from app.conventions import WATCHDOG_ALERT
from app.core.evidence import instant
from app.core.incidents import Act, Incident, Incidents, Kind, Notification
from app.paging.capture import Captured

#: After a bundle that could not be written, the next is begun so much later.
_AGAIN_SECONDS: Final = 5.0

log = logging.getLogger("qethics.pager")


class Desk:
    """The incidents, and what may be done about them.

    Parameters
    ----------
    incidents
        Those that are known; whoever reads the topic puts its acts into it as well.
    keep
        Puts an act on record; raises if that cannot be had.
    capture
        Writes the evidence of an incident.
    """

    def __init__(
        self,
        incidents: Incidents,
        keep: Callable[[Act], Awaitable[None]],
        capture: Callable[[Incident], Awaitable[Captured]],
    ) -> None:
        self.incidents = incidents
        #: When the watchdog was last heard of; None before the first time.
        self.watchdog_at: float | None = None
        self.notifications = 0
        self.captures_failed = 0
        self._keep = keep
        self._capture = capture
        self._waiting: asyncio.Queue[str] = asyncio.Queue()

    async def told(self, notification: Notification) -> list[str]:
        """Take in a notification of Alertmanager; the ids of the incidents that it says something new of."""
        now = time.time()
        self.notifications += 1
        if any(alert.labels.get("alertname") == WATCHDOG_ALERT for alert in notification.alerts):
            self.watchdog_at = now
        acts = self.incidents.told(notification, now)
        for act in acts:
            await self._record(act)
            if act.act == "opened":
                self._waiting.put_nowait(act.incident_id)
        return sorted({act.incident_id for act in acts})

    async def act(self, incident_id: str, act: Kind, by: str, text: str) -> Incident | None:
        """Put down what a person did; None if there is no such incident."""
        if incident_id not in self.incidents.known:
            return None
        done = self.incidents.done(incident_id, act, time.time(), by, text)
        if done is not None:
            await self._record(done)
        return self.incidents.known[incident_id]

    async def run(self) -> None:
        """Write the evidence of incidents as they open, one after the other, without end."""
        for incident in self.incidents.known.values():
            if incident.evidence is None and incident.resolved_at is None:
                self._waiting.put_nowait(incident.incident_id)  # a pager before this one did not come to it
        while True:
            incident = self.incidents.known[await self._waiting.get()]
            if incident.evidence is not None:
                continue
            try:
                found = await self._capture(incident)
                await self._record(_captured(incident, found))
            except (OSError, KafkaError) as error:
                # Without a broker the pager goes on: what fires is sent all the same.
                self.captures_failed += 1
                log.error("the evidence of incident %s was not written: %s", incident.incident_id, error)
                self._waiting.put_nowait(incident.incident_id)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _record(self, act: Act) -> None:
        await self._keep(act)
        self.incidents.take(act)


def _captured(incident: Incident, found: Captured) -> Act:
    missing = f"; missing: {', '.join(found.missing)}" if found.missing else ""
    return Act(
        incident_id=incident.incident_id,
        act="captured",
        at=instant(time.time()),
        by="pager",
        text=f"{found.path.name}{missing}",
        digest=f"sha256:{found.digest}",
    )
