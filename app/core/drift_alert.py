"""What a drift alert says: what changed, since when, by how much, how sure that is, and what was promised."""

from typing import Final

from app.conventions import DRIFT_ALERTS, FIDELITY_COLLAPSE_ALERT
from app.core.catalog import Promise
from app.core.drift import Firing, Found, Watched
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert
from detectors import Baseline, Change, Moved

#: How far the estimated beginning of a change may be from a recalibration to be put down to it: observations, share.
_NEAR_OBSERVATIONS: Final = 5
_NEAR_SHARE: Final = 0.3


def cause(found: Found) -> str:
    """``recalibration`` if the change began when the device was recalibrated, else ``drift``."""
    began, change = found.seen.epoch.began, found.change or found.moved
    if began is None or change is None:
        return "drift"
    since = found.seen.number - began + 1
    near = max(_NEAR_OBSERVATIONS, _NEAR_SHARE * since)
    return "recalibration" if abs(change.observations - since) <= near else "drift"


def guarantee(kind: str | None, observations: int, promise: Promise) -> str:
    """What the promise is worth with a baseline of that kind; None where nothing is promised."""
    if kind is None:
        return "none: this detector promises nothing"
    promised = f"at most {promise.false_alerts_per_week:g} false drift alerts a week over all streams"
    if kind != "learned":
        return f"{promised}, if the {kind} baseline is right"
    return (
        f"{promised}, and beside that {promise.doubt:g} for each stream whose baseline was learned (this one from "
        f"{observations} observations, if nothing was wrong with the device then)"
    )


def _of_change(change: Change, baseline: Baseline) -> tuple[dict[str, float], dict[str, str]]:
    figures = {
        "baseline": baseline.location,
        "baseline_spread": baseline.spread,
        "observations": float(change.n),
        "size": change.size,
        "size_low": change.low,
        "size_high": change.high,
    }
    return figures, {"direction": change.direction}


def _of_distribution(moved: Moved) -> dict[str, str]:
    return {
        "ways": ", ".join(f"{way} ({share:.0%})" for way, share in moved.ways),
        "moved": ", ".join(f"{outcome} {before:.4f} -> {after:.4f}" for outcome, before, after in moved.outcomes),
    }


def labels_of(watch: Watched, workload: str, backend: str) -> dict[str, str]:
    """What tells an alert of a watch from others."""
    return {"workload": workload, "backend": backend, "signal": watch.signal, "detector": watch.watch.detector}


def drift_alert(found: Found, workload: str, backend: str, promise: Promise) -> Alert:
    """The alert of a change that was found.

    Parameters
    ----------
    found
        What was found.
    workload, backend
        The stream it was found in.
    promise
        What was promised.
    """
    change, baseline, moved, signal = found.change, found.baseline, found.moved, found.watch.signal
    offer, _, epoch, mean_gap_seconds = found.seen
    labels = labels_of(found.watch, workload, backend)
    name, severity = DRIFT_ALERTS[signal], "ticket"
    kind: str | None = None
    learned = 0
    figures, notes = {"value": found.value}, {"cause": cause(found)}
    text = "has drifted"
    if offer.bitstrings.recent:
        notes["moved"] = offer.bitstrings.moved()
    if change is not None and baseline is not None:
        kind, learned = baseline.kind, baseline.observations
        more, said = _of_change(change, baseline)
        figures, notes = figures | more, notes | said
        text = f"went {change.direction} by {abs(change.size):.3g}"
        if signal == "fidelity" and change.size <= -promise.collapse:
            name, severity = FIDELITY_COLLAPSE_ALERT, "page"
    elif moved is not None:
        kind, learned = "learned", found.watch.watch.learn
        notes |= _of_distribution(moved)
        text = f"moved: {moved.ways[0][0]}"
    seen_since = change or moved
    if seen_since is not None and kind is not None:
        notes |= {
            "baseline": kind,
            "changed_at": instant(offer.at - seen_since.observations * mean_gap_seconds),
        }
        figures |= {
            "baseline_observations": float(learned),
            "since_observations": seen_since.observations,
            "evidence": seen_since.evidence,
            "budget_spent": seen_since.spent,
        }
    notes["guarantee"] = guarantee(kind, learned, promise)
    if epoch.before is not None:
        notes["calibration_before"] = epoch.before
    if epoch.calibration is not None:
        notes["calibration"] = epoch.calibration
    place = (*offer.source, offer.observation.offset)
    return Alert(
        alert_id=outcome_id("alert", name, *labels.values(), *place),
        fingerprint=_fingerprint(name, labels),
        name=name,
        severity=severity,
        status="firing",
        at=instant(offer.at),
        labels=labels,
        summary=f"{signal} of {workload} on {backend} {text} ({notes['cause']})",
        figures=figures,
        run_ids=tuple(offer.runs),
        notes=notes,
    )


def ended(firing: Firing, labels: dict[str, str], at: float, why: str) -> Alert:
    """The end of an alert that was firing.

    Parameters
    ----------
    firing, labels
        Which alert, and its labels.
    at
        When it ended, in seconds since the epoch.
    why
        Said to people.
    """
    return Alert(
        alert_id=outcome_id("alert", firing.alert_id, "resolved"),
        fingerprint=_fingerprint(firing.name, labels),
        name=firing.name,
        severity=firing.severity,
        status="resolved",
        at=instant(at),
        labels=labels,
        summary=f"{labels['signal']} of {labels['workload']} on {labels['backend']}: {why}",
        figures={},
        notes={"ended": why},
    )


def _fingerprint(name: str, labels: dict[str, str]) -> str:
    return outcome_id("condition", name, *labels.values())
