"""A pager between a broker and a real Alertmanager, with a way between them that can be broken."""

import asyncio
import time

import msgspec
from cluster import Cluster

from app import kafka
from app.conventions import ALERTS, WATCHDOG_SILENT_ALERT
from app.core.evidence import instant
from app.core.outcomes import Alert
from app.gameday.servers import alertmanager

#: Intervals of Alertmanager that nobody waits for in a test. A ticket waits as it does in production: this is the time
#: in which the page that it follows from comes and inhibits it.
QUICK = {
    "group_wait: 5s": "group_wait: 1s",
    "group_interval: 5m": "group_interval: 2s",
    "group_interval: 1m": "group_interval: 2s",
}
#: And what is longer than these: how long it must have had an alert before it is told that it is over.
HOLD = {"QETHICS_PAGER_PAGE_HOLD_SECONDS": "4", "QETHICS_PAGER_TICKET_HOLD_SECONDS": "4"}


def telling(webhook, directory, port=None):
    """An Alertmanager, started, that soon tells a webhook what the shipped one tells the pager."""
    replaced = {**QUICK, "http://127.0.0.1:6068/v1/alertmanager": webhook.url}
    server = alertmanager(directory, replaced, port)
    server.start()
    return server


def made(name, status="firing", *, severity="page", at=None, **fields):
    labels = fields.pop("labels", {"backend": name})  # a group of its own
    return Alert(
        alert_id=f"{name}-{status}",
        fingerprint=f"{name}-{'-'.join(labels.values())}",
        name=name,
        severity=severity,
        status=status,
        at=instant(at if at is not None else time.time()),
        labels=labels,
        summary=f"{name} of {labels}",
        figures={"size": 1.0},
        **fields,
    )


class Setting:
    """A deployment with a pager, an Alertmanager, a way between them, and somebody who is told."""

    def __init__(self, bootstrap, directory, way, server, webhook):
        self.way, self.server, self.webhook = way, server, webhook
        self.cluster = Cluster(bootstrap, directory, alertmanagers=way.url)
        asyncio.run(self.cluster.topics())
        self.pager = None

    def start(self, **environment):
        port = self.pager.port if self.pager is not None else None
        self.pager = self.cluster.pager(port, **{**HOLD, **environment})

    def say(self, *alerts):
        async def send():
            settings = self.cluster.settings
            producer = await kafka.connected(kafka.producer(settings), settings)
            try:
                for alert in alerts:
                    value = alert if isinstance(alert, bytes) else msgspec.json.encode(alert)
                    await producer.send_and_wait(settings.topic(ALERTS), value, key=b"k", partition=0)
            finally:
                await producer.stop()

        asyncio.run(send())

    def firing(self, name=None):
        """The alerts that Alertmanager has as active, without the pager's heartbeat."""
        found = self.server.get("/api/v2/alerts?active=true&silenced=false&inhibited=false")
        return sorted(
            each["labels"]["alertname"]
            for each in found
            # No Prometheus runs here, and after five minutes the pager says so.
            if each["labels"]["severity"] != "none" and each["labels"]["alertname"] != WATCHDOG_SILENT_ALERT
            if name in {None, each["labels"]["alertname"]}
        )

    def silenced(self):
        """What silences in force match."""
        found = self.server.get("/api/v2/silences")
        return sorted(each["matchers"][0]["value"] for each in found if each["status"]["state"] == "active")

    def told(self, name, status="firing"):
        """Notifications that said so."""
        return [
            each
            for each in self.webhook.told
            for alert in each["alerts"]
            if alert["labels"]["alertname"] == name and alert["status"] == status
        ]

    def metric(self, name):
        lines = [line for line in self.pager.page("/metrics").splitlines() if line.startswith((name + "{", name + " "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
