"""What fires and what has ended, as Alertmanager is to know it: alerts are leases. Pure.

Alertmanager's API v2 (https://github.com/prometheus/alertmanager, `api/v2/openapi.yaml`): an alert is its labels; one
that is not sent again ends at its `endsAt`; what was resolved is not remembered. So what fires is sent every minute and
ends four minutes later unless it is, as Prometheus does it (`rules/alerting.go`). `telling` says what is sent to one
Alertmanager, and when.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct, field, structs

from app.core.evidence import instant
from app.core.names import label_name, label_value, printed, url_part
from app.core.outcomes import Alert

RESEND_SECONDS: Final = 60.0
LEASE_SECONDS: Final = 4 * RESEND_SECONDS
#: What ended so long ago and was told to nobody by then is told no more.
UNTOLD_SECONDS: Final = 4 * 3_600.0
#: What ended is known for longer, so that what an Alertmanager has been told meanwhile is told to its end.
KNOWN_SECONDS: Final = UNTOLD_SECONDS + 3_600.0
_MOST_ENDED: Final = 10_000
#: Earlier times that an alert fired, of which the beginning is known.
_MOST_BEFORE: Final = 100
#: What nobody is told of: it stays in the topic.
_NOT_SENT: Final = frozenset({"info"})
ORDER: Final = {"page": 0, "ticket": 1}


class Lease(Struct, frozen=True):
    """An alert as Alertmanager is to know it. Times in seconds since the epoch."""

    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: float
    ends_at: float | None
    #: Another one with every change, so that a change is sent at once.
    version: int
    #: When it began the times before that it fired, the last of them, and when it last ended.
    before: tuple[float, ...] = ()
    ended_before: float = float("-inf")


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

    def take(self, alert: Alert, now: float = float("inf")) -> bool:
        """Take in what was said of an alert; whether it changes what is sent.

        Records may come late or again, so what they say is ordered by their times: what fired before an end that is
        known does not fire again, and an end before a beginning that is known ends nothing. An end that is later than
        `now` (seconds since the epoch) is of now: a clock that was ahead holds up nothing that fires afterwards.
        """
        if alert.severity in _NOT_SENT:
            return False
        found = leased(alert, self._runbooks, self._changes + 1)
        at = min(_seconds(alert.at), now)
        follow = _resolved if alert.status == "resolved" else _fired
        after = follow(found, self._leases.get(alert.fingerprint), at)
        if after is None:
            return False
        self._changes += 1
        self._leases[alert.fingerprint] = after
        return True

    def leases(self) -> Iterable[Lease]:
        """All of them."""
        return self._leases.values()

    def firing(self) -> Iterator[Lease]:
        """Those that fire."""
        return (each for each in self._leases.values() if each.ends_at is None)

    def forget(self, now: float) -> None:
        """Forget what ended long ago, or longest ago if too much has."""
        ended = sorted((each.ends_at, each.fingerprint) for each in self._leases.values() if each.ends_at is not None)
        for number, (ends_at, fingerprint) in enumerate(ended):
            if now - ends_at > KNOWN_SECONDS or len(ended) - number > _MOST_ENDED:
                del self._leases[fingerprint]


def _fired(found: Lease, before: Lease | None, at: float) -> Lease | None:
    """What is known after it was said at `at` that an alert fires; None if that is known already to be over."""
    if before is None:
        return found
    if before.ends_at is None:
        if at < before.ended_before:
            return None
        starts_at = min(found.starts_at, before.starts_at)
        return structs.replace(found, starts_at=starts_at, before=before.before, ended_before=before.ended_before)
    if at < before.ends_at or (at == before.ends_at and found.starts_at <= before.starts_at):
        return None
    return _another(found, before, before.ends_at)


def _resolved(found: Lease, before: Lease | None, at: float) -> Lease | None:
    """What is known after it was said at `at` that an alert is over; None if that is known, or of an earlier time."""
    over = structs.replace(found, starts_at=min(found.starts_at, at), ends_at=at)
    if before is None:
        return over
    if before.ends_at is None:
        return structs.replace(before, ends_at=at, version=found.version) if at >= before.starts_at else None
    # Else it is said again, or nothing says that it fired in between.
    return _another(over, before, before.ends_at) if before.ends_at < found.starts_at < at else None


def _another(found: Lease, before: Lease, ended_at: float) -> Lease:
    """A lease of another time that an alert fires."""
    return structs.replace(found, before=(*before.before, before.starts_at)[-_MOST_BEFORE:], ended_before=ended_at)


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
