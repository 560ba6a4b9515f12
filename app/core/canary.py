"""A canary release against the stable one, on the streams of a partition."""

from math import isfinite, nan
from typing import Final

from msgspec import Struct, field

from app.conventions import CANARY_ALERT, ROLLBACK_CANARY
from app.core import drift
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert, Directive, Observation, Outcomes
from detectors.canary import Comparison

#: What is compared; larger is better for both, so errors are compared by their share of right shots.
SIGNALS: Final = ("fidelity", "error_rate")
_DIRECTIVE_SECONDS: Final = 86_400.0
_SEVERITIES: Final = {"worse": "page", "better": "info", "equal": "info"}


class Canary(Struct, array_like=True):
    """The comparison of one signal of one stream, from one release on.

    A canary observation is paired with the nearest stable one that is not paired yet; of several of one side the last
    counts. So a pair saw the same device at about the same time, and what happens to both cancels.
    """

    release: str | None = None
    comparison: Comparison = field(default_factory=Comparison)
    said: str = "not_enough_runs"
    #: The last values that are not paired.
    canary: float | None = None
    stable: float | None = None

    def take(self, value: float, release: str | None) -> bool:
        """Take in a value; whether the verdict is another one now."""
        if release is None:
            self.stable = value
        else:
            if release != self.release:
                self.release, self.comparison, self.said, self.canary = release, Comparison(), "not_enough_runs", None
            self.canary = value
        if self.canary is None or self.stable is None:
            return False
        self.comparison.add(self.canary, self.stable)
        self.canary = self.stable = None
        verdict = self.comparison.verdict()
        changed = verdict not in {self.said, "not_enough_runs"}
        if changed:
            self.said = verdict
        return changed


def reading(signal: str, observation: Observation) -> float | None:
    """A signal of an observation as a finite number of which more is better."""
    values = drift.reading(signal, observation)
    value = nan if values is None else drift.as_one(values)
    if not isfinite(value):
        return None
    return -value if signal == "error_rate" else value


def say(
    canary: Canary, signal: str, workload: str, backend: str, source: tuple[str, int], observation: Observation,
    outcomes: Outcomes,
) -> None:  # fmt: skip
    """Put down a verdict: an alert, and for a worse canary the directive to roll it back."""
    verdict, release = canary.said, canary.release or ""
    labels = {"workload": workload, "backend": backend, "signal": signal, "release": release, "verdict": verdict}
    cause = (*labels.values(), *source, observation.offset)
    where = f"{signal} of canary {release} of {workload} on {backend}"
    summary = f"{where} is {verdict} after {canary.comparison.pairs} pairs"
    evidence = canary.comparison.evidence()
    outcomes.alerts.append(
        Alert(
            alert_id=outcome_id("alert", CANARY_ALERT, *cause),
            fingerprint=outcome_id("condition", CANARY_ALERT, workload, backend, signal, release),
            name=CANARY_ALERT,
            severity=_SEVERITIES[verdict],
            status="firing",
            at=instant(observation.at),
            labels=labels,
            summary=summary,
            figures={"pairs": float(canary.comparison.pairs), "lost": canary.comparison.lost, **evidence},
            run_ids=(observation.run_id,),
            notes={"guarantee": f"wrong with probability at most {canary.comparison.alpha:g}, ever, for each signal"},
        )
    )
    if verdict == "worse":
        outcomes.directives.append(
            Directive(
                directive_id=outcome_id("directive", ROLLBACK_CANARY, *cause),
                directive=ROLLBACK_CANARY,
                target=workload,
                reason=summary,
                issued_at=instant(observation.at),
                expires_at=instant(observation.at + _DIRECTIVE_SECONDS),
            )
        )
