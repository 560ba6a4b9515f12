"""Orders: which are in force, what the target of one about a stream is called, and which alert gives one."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from app.conventions import FALLBACK_CLASSICAL, GRAVE_ALERTS
from app.core.catalog import ANY
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert, Directive


def stream_target(labels: Mapping[str, str]) -> str:
    """The target of an order about a stream: workload/backend; of one over all backends, the workload."""
    workload, backend = labels["workload"], labels["backend"]
    return workload if backend == ANY else f"{workload}/{backend}"


def is_of(target: str, workload: str | None, backend: str | None) -> bool:
    """Whether a stream's target is about a run of a workload on a backend; where that is not known, it is."""
    if workload is None:
        return False
    if target == workload:
        return True
    return target == f"{workload}/{backend}" if backend is not None else target.startswith(f"{workload}/")


def fallback(alert: Alert, at: float, seconds: float) -> Directive | None:
    """The order that a grave change gives: the classical path from `at` (seconds since the epoch, by the log's clock)
    until the alert ends, or for at most `seconds`."""
    if alert.name not in GRAVE_ALERTS.values():
        return None
    return Directive(
        directive_id=outcome_id("directive", FALLBACK_CLASSICAL, alert.alert_id),
        directive=FALLBACK_CLASSICAL,
        target=stream_target(alert.labels),
        reason=alert.summary,
        issued_at=instant(at),
        expires_at=instant(at + seconds),
    )


def active(directives: Iterable[Directive], now: float) -> list[Directive]:
    """Those that are in force at `now`, seconds since the epoch, by directive and target."""
    found = [each for each in directives if _at(each.issued_at) <= now + _SKEW_SECONDS and now < _at(each.expires_at)]
    return sorted(found, key=lambda each: (each.directive, each.target))


def issued_at(directive: Directive) -> float:
    """Return when a directive was issued, in seconds since the epoch."""
    return _at(directive.issued_at)


def readable(directive: Directive) -> None:
    """Check that a directive says from when and until when it holds.

    Raises
    ------
    ValueError
        If it does not.
    """
    _at(directive.issued_at), _at(directive.expires_at)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


#: How far the clocks of who orders and who obeys may be apart.
_SKEW_SECONDS: Final = 60.0
