"""What is said to Alertmanager, and when again: alerts are leases. Pure.

Alertmanager's API v2 (https://github.com/prometheus/alertmanager, `api/v2/openapi.yaml`): an alert is its labels; one
that is not sent again ends at its `endsAt`; what was resolved is not remembered. So what fires is sent every minute and
ends four minutes later unless it is, as Prometheus does it (`rules/alerting.go`), and what has ended is sent for a
quarter of an hour more.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct, field, structs

from app.core.evidence import instant
from app.core.names import label_name, label_value, printed, url_part
from app.core.outcomes import Alert

RESEND_SECONDS: Final = 60.0
#: It is due so much before, for the time until somebody looks and until it is answered.
_AHEAD_SECONDS: Final = 5.0
LEASE_SECONDS: Final = 4 * RESEND_SECONDS
RESOLVED_SECONDS: Final = 900.0
#: What nobody is told of: it stays in the topic.
_NOT_SENT: Final = frozenset({"info"})
_ORDER: Final = {"page": 0, "ticket": 1}


class Lease(Struct, frozen=True):
    """An alert as Alertmanager is to know it. Times in seconds since the epoch."""

    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: float
    ends_at: float | None
    #: Another one with every change, so that a change is sent at once.
    version: int


class Posted(Struct, frozen=True, rename="camel"):
    """An alert as it is posted (`postableAlert`)."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str
    generator_url: str = field(name="generatorURL")


class Book:
    """All alerts that fire, and those that ended a short while ago.

    Parameters
    ----------
    runbooks
        Where runbooks are read: an alert's name is appended.
    """

    def __init__(self, runbooks: str) -> None:
        self._runbooks = runbooks.rstrip("/")
        self._leases: dict[str, Lease] = {}
        self._changes = 0

    def take(self, alert: Alert) -> bool:
        """Take in what was said of an alert, in the order it was said; whether it changes what is sent."""
        before = self._leases.get(alert.fingerprint)
        if alert.severity in _NOT_SENT:
            return False
        self._changes += 1
        if alert.status == "resolved":
            if before is not None and before.ends_at is not None:
                return False
            known = before or leased(alert, self._runbooks, self._changes)
            found = structs.replace(known, ends_at=_seconds(alert.at), version=self._changes)
        else:
            found = leased(alert, self._runbooks, self._changes)
            if before is not None and before.ends_at is None:
                found = structs.replace(found, starts_at=min(found.starts_at, before.starts_at))
        self._leases[alert.fingerprint] = found
        return True

    def leases(self) -> Iterable[Lease]:
        """All of them."""
        return self._leases.values()

    def firing(self) -> Iterator[Lease]:
        """Those that fire."""
        return (each for each in self._leases.values() if each.ends_at is None)

    def forget(self, now: float) -> None:
        """Forget what ended so long ago that it is sent no more."""
        for each in list(self._leases.values()):
            if each.ends_at is not None and now - each.ends_at > RESOLVED_SECONDS:
                del self._leases[each.fingerprint]

    def due(self, sent: Mapping[str, tuple[int, float]], now: float) -> list[Lease]:
        """What is to be sent to one Alertmanager, pages first.

        Parameters
        ----------
        sent
            Fingerprint -> (version, when) that was last sent to it.
        now
            Seconds since the epoch.
        """
        found = []
        for each in self._leases.values():
            version, at = sent.get(each.fingerprint, (-1, 0.0))
            if version != each.version or not 0 <= now - at < RESEND_SECONDS - _AHEAD_SECONDS:
                found.append(each)
        return sorted(found, key=lambda each: (_ORDER.get(each.labels["severity"], 2), each.starts_at))


def leased(alert: Alert, runbooks: str, version: int) -> Lease:
    """An alert of the processor as Alertmanager takes it: names and values that it cannot take are made so.

    Parameters
    ----------
    alert
        What was said.
    runbooks
        Where runbooks are read.
    version
        Of the lease.
    """
    labels = {label_name(name): label_value(value) for name, value in alert.labels.items() if value.strip()}
    notes = {name: text for name, text in alert.notes.items() if name != "since" and text.strip()}
    figures = ", ".join(f"{name} {value:.6g}" for name, value in alert.figures.items())
    described = [alert.summary, figures, *(f"{name}: {text}" for name, text in notes.items())]
    annotations = {
        "summary": printed(alert.summary),
        "description": printed("\n".join(line for line in described if line)),
        "runbook_url": f"{runbooks}/{url_part(alert.name)}",
        "dashboard_url": "/d/qethics-oncall",
    }
    if alert.run_ids:
        annotations["runs"] = printed(", ".join(alert.run_ids[:10]))
    return Lease(
        fingerprint=alert.fingerprint,
        labels={**labels, "alertname": label_value(alert.name), "severity": label_value(alert.severity)},
        annotations=annotations,
        starts_at=_seconds(alert.notes.get("since", alert.at)),
        ends_at=None,
        version=version,
    )


def posted(lease: Lease, now: float, generator: str) -> Posted:
    """A lease as it is posted at `now`; `generator` is the address of who says it."""
    # The clocks of producers may be ahead of ours; what begins later does not fire, and no end is before its beginning.
    starts_at = min(lease.starts_at, now)
    ends_at = now + LEASE_SECONDS if lease.ends_at is None else max(min(lease.ends_at, now), starts_at)
    return Posted(lease.labels, lease.annotations, instant(starts_at), instant(ends_at), generator)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
