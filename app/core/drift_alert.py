"""What a drift alert says: what changed, since when, by how much, how sure that is, and what was promised."""

from typing import Final

from msgspec import Struct

from app.conventions import DRIFT_ALERTS, FIDELITY_COLLAPSE_ALERT
from app.core.catalog import Promise
from app.core.drift import Found, Moment
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert
from detectors import Baseline

#: How far the estimated beginning of a change may be from a recalibration to be put down to it: observations, share.
_NEAR_OBSERVATIONS: Final = 5
_NEAR_SHARE: Final = 0.3
_RUNS: Final = 8


class Epoch(Struct, array_like=True):
    """What is known of one stream's place in time: its calibration, the one before, its last runs."""

    calibration: str | None = None
    before: str | None = None
    #: The number of the observation that the calibration came with; None before any recalibration.
    began: int | None = None
    seen: int = 0
    #: Mean time between observations, forgetting: seconds.
    gap_seconds: float = 0.0
    last_at: float = 0.0
    runs: list[str] = []

    def take(self, at: float, run_id: str, calibration: str | None) -> Moment:
        """Take in one observation; returns the stream as it was then."""
        self.seen += 1
        if self.seen > 1:
            gap = max(at - self.last_at, 0.0)
            self.gap_seconds += (gap - self.gap_seconds) * max(1 / (self.seen - 1), 0.02)
        self.last_at = max(self.last_at, at)
        if not self.runs or self.runs[-1] != run_id:
            self.runs = [*self.runs, run_id][-_RUNS:]
        if calibration is not None and calibration != self.calibration:
            if self.calibration is not None:
                self.before, self.began = self.calibration, self.seen
            self.calibration = calibration
        return Moment(self.seen, self.gap_seconds, self.calibration, self.before, self.began, self.runs)


def cause(found: Found) -> str:
    """``recalibration`` if the change began when the device was recalibrated, else ``drift``."""
    began = found.offer.moment.began
    if began is None or found.change is None:
        return "drift"
    since = found.offer.moment.number - began + 1
    near = max(_NEAR_OBSERVATIONS, _NEAR_SHARE * since)
    return "recalibration" if since > 0 and abs(found.change.observations - since) <= near else "drift"


def guarantee(baseline: Baseline | None, promise: Promise) -> str:
    """What the promise is worth with this baseline."""
    if baseline is None:
        return "none: this detector promises nothing"
    promised = f"at most {promise.false_alerts_per_week:g} false drift alerts a week over all streams"
    if baseline.kind == "learned":
        return f"{promised}, if the baseline learned from {baseline.observations} observations is right"
    return f"{promised}, if the {baseline.kind} baseline is right"


def drift_alert(signal: str, found: Found, labels: dict[str, str], promise: Promise) -> Alert:
    """The alert of a change that was found.

    Parameters
    ----------
    signal, found
        What was found where.
    labels
        workload and backend.
    promise
        What was promised.
    """
    change, baseline = found.change, found.baseline
    _, observation, moment, source = found.offer
    labels = {**labels, "signal": signal, "detector": found.watch.detector}
    name, severity = DRIFT_ALERTS[signal], "ticket"
    recovered = change is not None and change.kind == "recovery"
    figures = {"value": found.value}
    notes = {"cause": cause(found), "guarantee": guarantee(baseline, promise)}
    text = "has drifted"
    if change is not None and baseline is not None:
        notes |= {"direction": change.direction, "baseline": baseline.kind}
        figures |= {"baseline": baseline.location, "baseline_spread": baseline.spread, "observations": float(change.n)}
        if not recovered:
            figures |= {
                "size": change.size,
                "size_low": change.low,
                "size_high": change.high,
                "since_observations": change.observations,
                "evidence": change.evidence,
                "budget_spent": change.spent,
            }
            notes["changed_at"] = instant(observation.at - change.observations * moment.gap_seconds)
            text = f"went {change.direction} by {abs(change.size):.3g}"
            if signal == "fidelity" and change.size <= -promise.collapse:
                name, severity = FIDELITY_COLLAPSE_ALERT, "page"
    if moment.before is not None:
        notes["calibration_before"] = moment.before
    if moment.calibration is not None:
        notes["calibration"] = moment.calibration
    place = (*source, observation.offset)
    condition = outcome_id("condition", DRIFT_ALERTS[signal], *labels.values())
    where = f"{signal} of {labels['workload']} on {labels['backend']}"
    return Alert(
        alert_id=outcome_id("alert", DRIFT_ALERTS[signal], *labels.values(), *place, "resolved" if recovered else ""),
        fingerprint=condition,
        name=name,
        severity=severity,
        status="resolved" if recovered else "firing",
        at=instant(observation.at),
        labels=labels,
        summary=f"{where} is back at its baseline" if recovered else f"{where} {text} ({notes['cause']})",
        figures=figures,
        run_ids=tuple(moment.runs),
        notes=notes,
    )
