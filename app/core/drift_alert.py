"""What a drift alert says: what changed, since when, by how much, how sure that is, and what was promised."""

from math import exp, log
from typing import Final

from app.conventions import DRIFT_ALERTS, GRAVE_ALERTS
from app.core.catalog import Promise
from app.core.drift import Firing, Found
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


def _of_change(found: Found, change: Change, baseline: Baseline) -> tuple[dict[str, float], str]:
    """The figures of a change in the signal's own unit, and what to say of it."""
    figures = {"observations": float(change.n), "baseline_spread": baseline.spread}
    sizes = {"size": change.size, "size_low": change.low, "size_high": change.high}
    what = found.watch.quantity
    of = f" in its {what}" if what == "spread" else ""
    if found.watch.watch.transform == "log":
        # On a logarithm a change is a factor.
        factors = {name.replace("size", "factor"): exp(value) for name, value in sizes.items()}
        figures |= {"value": exp(found.value), "baseline": exp(baseline.location), **factors}
        return figures, f"went {change.direction}{of} by a factor of {factors['factor']:.3g}"
    figures |= {"value": found.value, "baseline": baseline.location, **sizes}
    return figures, f"went {change.direction}{of} by {abs(change.size):.3g}"


def _of_distribution(moved: Moved) -> dict[str, str]:
    return {
        "ways": ", ".join(f"{way} ({share:.0%})" for way, share in moved.ways),
        "moved": ", ".join(f"{outcome} {before:.4f} -> {after:.4f}" for outcome, before, after in moved.outcomes),
    }


def grave(found: Found, promise: Promise) -> bool:
    """Whether a change is so large that it pages: a deep fall of fidelity, a queue many times as long."""
    if found.change is None:
        return False
    if found.watch.signal == "fidelity":
        return found.change.size <= -promise.collapse
    if found.watch.signal == "queue_seconds" and found.watch.watch.transform == "log":
        return found.change.size >= log(promise.pileup)
    return False


def drift_alert(found: Found, promise: Promise, at: float) -> Alert:
    """The alert of a change that was found.

    Parameters
    ----------
    found
        What was found.
    promise
        What was promised.
    at
        When it was found, by the log's clock, seconds since the epoch: a producer's may be hours off.
    """
    change, baseline, moved, signal = found.change, found.baseline, found.moved, found.watch.signal
    offer, lane, _, epoch, mean_gap_seconds = found.seen
    labels = found.watch.labels(lane)
    name, severity = (GRAVE_ALERTS[signal], "page") if grave(found, promise) else (DRIFT_ALERTS[signal], "ticket")
    kind: str | None = None
    learned = 0
    figures: dict[str, float] = {"value": found.value}
    notes = {"cause": cause(found)}
    text = "has drifted"
    if offer.bitstrings.recent:
        notes["moved"] = offer.bitstrings.moved()
    if change is not None and baseline is not None:
        kind, learned = baseline.kind, baseline.observations
        more, text = _of_change(found, change, baseline)
        figures, notes["direction"] = figures | more, change.direction
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
        }
        if seen_since.spent:  # what has only gone further than was said costs nothing more
            figures |= {"evidence": seen_since.evidence, "budget_spent": seen_since.spent}
    notes["guarantee"] = guarantee(kind, learned, promise)
    if epoch.before is not None:
        notes["calibration_before"] = epoch.before
    if epoch.calibration is not None:
        notes["calibration"] = epoch.calibration
    place = (*offer.source, offer.observation.offset)
    return Alert(
        alert_id=outcome_id("alert", name, *labels.values(), *place),
        fingerprint=condition(name, labels),
        name=name,
        severity=severity,
        status="firing",
        at=instant(at),
        labels=labels,
        summary=f"{signal} of {labels['workload']} on {labels['backend']} {text} ({notes['cause']})",
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
        fingerprint=condition(firing.name, labels),
        name=firing.name,
        severity=firing.severity,
        status="resolved",
        at=instant(at),
        labels=labels,
        summary=f"{labels['signal']} of {labels['workload']} on {labels['backend']}: {why}",
        figures={},
        notes={"ended": why},
    )


def condition(name: str, labels: dict[str, str]) -> str:
    """The fingerprint of what an alert is about, whatever its figures."""
    return outcome_id("condition", name, *labels.values())
