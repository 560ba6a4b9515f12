"""Incidents: what Alertmanager told of, what people did about it, and how long that took (M8). Pure.

An incident is (fingerprint, startsAt) of an alert. What happens to it are *acts*, each under a key of its own in the
compacted topic `incidents`; what is known of an incident is the fold of its acts. The fold takes the earliest of what
can come twice, so that acts may come in any order and any number of times.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
from msgspec import Struct, field

from app.core.evidence import instant
from app.core.identity import outcome_id

#: Severities that are somebody's to resolve.
SEVERITIES: Final = ("page", "ticket")
#: Resolved within this time is good (M8).
GOOD_SECONDS: Final = 4 * 3_600.0
#: A notification that is sent late, or by another Alertmanager of the cluster, comes within this time after the end of
#: what it is about. One that comes later says that it has not ended.
_LATE_SECONDS: Final = 120.0
#: An incident of the same alert that begins so soon after the last one ended is that one again.
_REOPENED_SECONDS: Final = 3_600.0
_RESAMPLES: Final = 2_000
_DRAWN_AT_ONCE: Final = 1_000_000
_CONFIDENCE: Final = 0.95
_MOST_NOTE: Final = 2_000

Kind = Literal["opened", "acknowledged", "mitigated", "resolved", "captured", "noted"]
PHASES: Final = ("detect", "acknowledge", "mitigate", "resolve")


class Told(Struct, frozen=True, rename="camel"):
    """An alert of a notification (webhook version 4)."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: str
    ends_at: str
    fingerprint: str
    annotations: dict[str, str] = field(default_factory=dict)


class Notification(Struct, frozen=True, rename="camel"):
    """What Alertmanager posts to a webhook
    (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config)."""

    version: str
    group_key: str
    receiver: str
    alerts: tuple[Told, ...]
    truncated_alerts: int = 0


class Act(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to an incident. `at` in RFC 3339."""

    incident_id: str
    act: Kind
    at: str
    #: Who did it: `alertmanager`, or the name that a person gave.
    by: str
    text: str = ""
    #: Of `opened`: what the alert was.
    fingerprint: str = ""
    alertname: str = ""
    severity: str = ""
    starts_at: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    #: Of `captured`: the digest of the bundle of evidence.
    digest: str = ""

    @property
    def key(self) -> str:
        """Its key in the topic: the same act of the same hand replaces itself."""
        parts = [self.incident_id, self.act]
        if self.act == "noted":
            parts.append(outcome_id("note", self.at, self.by, self.text)[:8])
        elif self.act == "resolved":
            parts.append("alertmanager" if self.by == ALERTMANAGER else "person")
        return "/".join(parts)


ALERTMANAGER: Final = "alertmanager"


class Incident(Struct, kw_only=True):
    """What is known of an incident. Times in seconds since the epoch."""

    incident_id: str
    fingerprint: str = ""
    alertname: str = ""
    severity: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    #: When what is wrong began, and when Alertmanager told of it.
    started_at: float | None = None
    detected_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    mitigated_at: float | None = None
    mitigated_by: str | None = None
    resolved_at: float | None = None
    resolved_by: str | None = None
    evidence: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def phase(self) -> str:
        """How far it has got: detected, acknowledged, mitigated or resolved."""
        if self.resolved_at is not None:
            return "resolved"
        if self.mitigated_at is not None:
            return "mitigated"
        return "acknowledged" if self.acknowledged_at is not None else "detected"

    def reached_at(self, act: Kind) -> float | None:
        """When it was acknowledged, mitigated or resolved; None if it was not, or of an act that is no phase."""
        return {
            "acknowledged": self.acknowledged_at,
            "mitigated": self.mitigated_at,
            "resolved": self.resolved_at,
        }.get(act)

    def took(self, phase: str) -> float | None:
        """Seconds that a phase took; None while it has not ended.

        Detection is from the beginning to the first notification, acknowledging and mitigating from there on, resolving
        from the beginning to the end.
        """
        begin = self.started_at if phase in {"detect", "resolve"} else self.detected_at
        end = {
            "detect": self.detected_at,
            "acknowledge": self.acknowledged_at,
            "mitigate": self.mitigated_at,
            "resolve": self.resolved_at,
        }[phase]
        return None if begin is None or end is None else max(0.0, end - begin)


class Incidents:
    """All incidents, folded from their acts."""

    def __init__(self) -> None:
        self.known: dict[str, Incident] = {}

    def take(self, act: Act) -> bool:
        """Take in an act; whether anything is known now that was not."""
        at = _seconds(act.at)
        if act.act == "opened":
            _seconds(act.starts_at)  # what is no time must change nothing
        before = self.known.get(act.incident_id)
        one = self.known.setdefault(act.incident_id, Incident(incident_id=act.incident_id))
        return _FOLDS[act.act](one, act, at) or before is None

    def told(self, notification: Notification, at: float) -> list[Act]:
        """The acts that a notification is, received `at` (seconds since the epoch); those that say nothing new are not.

        Alertmanager repeats itself, and what it says may arrive in another order than it was said.
        """
        found: list[Act] = []
        for alert in notification.alerts:
            severity = alert.labels.get("severity", "")
            if severity not in SEVERITIES:
                continue
            incident_id, starts_at = self._of(alert, at)
            known = self.known.get(incident_id)
            if known is None or known.started_at is None:
                found.append(
                    Act(
                        incident_id=incident_id,
                        act="opened",
                        at=instant(at),
                        by=ALERTMANAGER,
                        fingerprint=alert.fingerprint,
                        alertname=alert.labels.get("alertname", ""),
                        severity=severity,
                        starts_at=starts_at,
                        labels=alert.labels,
                        annotations=alert.annotations,
                    )
                )
            if alert.status == "resolved" and (known is None or known.resolved_at is None):
                ends_at = instant(_seconds(alert.ends_at))
                found.append(Act(incident_id=incident_id, act="resolved", at=ends_at, by=ALERTMANAGER))
        return found

    def _of(self, alert: Told, at: float) -> tuple[str, str]:
        """The incident that is told of, and when it began.

        What Alertmanager took to be over, because it did not hear of it, fires again with the same `startsAt`. That is
        another incident, which opens the one before again.
        """
        starts_at = instant(_seconds(alert.starts_at))
        incident_id = outcome_id("incident", alert.fingerprint, starts_at)[:16]
        while (one := self.known.get(incident_id)) is not None and one.resolved_by == ALERTMANAGER:
            resolved_at = one.resolved_at or 0.0
            again = outcome_id("incident", incident_id, "again")[:16]
            is_later = at > resolved_at + _LATE_SECONDS
            if alert.status == "resolved":
                is_later = again in self.known and _seconds(alert.ends_at) > resolved_at
            if not is_later:
                break
            incident_id, starts_at = again, instant(resolved_at)
        return incident_id, starts_at

    def done(self, incident_id: str, act: Kind, at: float, by: str, text: str) -> Act | None:
        """The act that a person's doing is; None if it was done already: the first counts, in the topic as well.

        Raises
        ------
        KeyError
            If there is no such incident.
        """
        one = self.known[incident_id]
        already = one.reached_at(act)
        if already is not None and already <= at:
            # What was said with it is not lost.
            return self.done(incident_id, "noted", at, by, text) if text else None
        return Act(incident_id=incident_id, act=act, at=instant(at), by=by, text=text)

    def listed(self) -> list[Incident]:
        """All, the newest first."""
        return sorted(self.known.values(), key=lambda one: (one.started_at or 0.0, one.incident_id), reverse=True)

    def reopened(self) -> dict[str, str]:
        """Incident -> the one of the same alert that ended within an hour before it began."""
        listed = self.listed()
        found: dict[str, str] = {}
        later: dict[str, Incident] = {}
        for one in listed:
            after = later.get(one.fingerprint)
            if after is not None and _is_again(one, after):
                found[after.incident_id] = one.incident_id
            later[one.fingerprint] = one
        return found


def _is_again(before: Incident, one: Incident) -> bool:
    if before.resolved_at is None or one.started_at is None:
        return False
    return 0 <= one.started_at - before.resolved_at <= _REOPENED_SECONDS


def _opened(one: Incident, act: Act, at: float) -> bool:
    first = one.started_at is None
    one.fingerprint, one.alertname, one.severity = act.fingerprint, act.alertname, act.severity
    one.labels, one.annotations = act.labels, act.annotations
    one.started_at = _seconds(act.starts_at)
    one.detected_at = at if one.detected_at is None else min(one.detected_at, at)
    return first


def _reached(one: Incident, act: Act, at: float) -> bool:
    """A phase was reached; the earliest counts."""
    is_noted = bool(act.text) and _noted(one, act, at)
    known = one.reached_at(act.act)
    if known is not None and known <= at:
        return is_noted
    setattr(one, f"{act.act}_at", at)
    setattr(one, f"{act.act}_by", act.by)
    return True


def _captured(one: Incident, act: Act, at: float) -> bool:
    fresh, one.evidence = one.evidence != act.digest, act.digest
    return fresh


def _noted(one: Incident, act: Act, at: float) -> bool:
    text = f"{act.at} {act.by}: {act.text[:_MOST_NOTE]}"
    if text in one.notes:
        return False
    one.notes = sorted([*one.notes, text])
    return True


_FOLDS: Final = {
    "opened": _opened,
    "acknowledged": _reached,
    "mitigated": _reached,
    "resolved": _reached,
    "captured": _captured,
    "noted": _noted,
}


class Figures(NamedTuple):
    """How long something took, in seconds. None where there is nothing to take it from."""

    n: int
    mean: float | None
    median: float | None
    p90: float | None
    #: The 95 % bootstrap interval of the median (percentile method: Efron and Tibshirani 1993, chapter 13).
    low: float | None
    high: float | None


def figures(values: Sequence[float]) -> Figures:
    """Sum up durations: the mean of a few skewed ones says little, so what else can be said stands beside it.

    Parameters
    ----------
    values
        Seconds, in any order. The quantiles interpolate linearly (type 7 of Hyndman and Fan 1996).
    """
    return _figures(tuple(values))


@lru_cache(maxsize=64)  # asked for with every scrape, and seldom of anything new
def _figures(values: tuple[float, ...]) -> Figures:
    if not values:
        return Figures(0, None, None, None, None, None)
    found = np.sort(np.asarray(values, dtype=float))
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(_medians(found), [tail, 1 - tail])
    return Figures(
        len(found),
        float(found.mean()),
        float(np.median(found)),
        float(np.quantile(found, 0.9)),
        float(low),
        float(high),
    )


def _medians(found: np.ndarray) -> np.ndarray:
    """Medians of resamples, (_RESAMPLES,); in portions, so that many incidents take no more memory than few."""
    rng = np.random.default_rng(0)
    rows = max(1, _DRAWN_AT_ONCE // len(found))
    portions = [min(rows, _RESAMPLES - done) for done in range(0, _RESAMPLES, rows)]
    return np.concatenate([np.median(rng.choice(found, (portion, len(found))), axis=1) for portion in portions])


def phases(incidents: Iterable[Incident]) -> Mapping[tuple[str, str], Figures]:
    """(severity, phase) -> how long it took, of all incidents in which it has ended."""
    known = list(incidents)
    return {
        (severity, phase): figures(
            [took for one in known if one.severity == severity and (took := one.took(phase)) is not None]
        )
        for severity in SEVERITIES
        for phase in PHASES
    }


def _seconds(text: str) -> float:
    """RFC 3339 with any number of decimals, in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
