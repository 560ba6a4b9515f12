"""A canary release against the stable one, on the streams of a partition."""

from collections.abc import Mapping
from typing import Final, TypeVar

from msgspec import Struct, field

from app.conventions import CANARY_ALERT, ROLLBACK_CANARY
from app.core.drift import Firing, as_one
from app.core.drift_alert import condition
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.orders import stream_target
from app.core.outcomes import Alert, Directive, Observation
from detectors.canary import Comparison, Homogeneity

#: What is compared. Errors are compared by their share of right shots, so that larger is better; of decisions only
#: whether they differ: which of them are better is not ours to say.
SIGNALS: Final = ("fidelity", "error_rate", "decision")
#: Further apart than this two observations may have seen different devices.
_PAIR_SECONDS: Final = 3_600.0
#: Canary releases and numbers of shots that are kept apart, at most.
_KEPT: Final = 8
#: How long an order holds, and after how long it is given again while the release goes on.
_DIRECTIVE_SECONDS: Final = 86_400.0
_AGAIN_SECONDS: Final = 43_200.0
#: A release not heard of for a day is gone.
_SILENT_SECONDS: Final = 86_400.0
_SEVERITIES: Final = {"worse": "page", "differ": "ticket", "better": "info", "equal": "info"}


class Waiting(Struct, frozen=True, array_like=True):
    """A value or decision that is not paired yet, and when it was made."""

    value: float | str
    at: float


class Release(Struct, array_like=True):
    """One canary release beside the stable one.

    A canary observation is paired with the nearest stable one of as many shots that is not paired yet, if that is
    no more than an hour away; of several of one side the last counts. So a pair saw the same device at about the same
    time, and what happens to both cancels.
    """

    comparison: Comparison | Homogeneity
    said: str = "not_enough_runs"
    #: The alert that says so, and when the release was last to be rolled back (of events).
    firing: Firing | None = None
    ordered_at: float = 0.0
    #: When a canary observation was last seen, in seconds watched.
    heard_at: float = 0.0
    #: What is not paired, by number of shots: results of other numbers differ even if the releases do not.
    canary: dict[int, Waiting] = field(default_factory=dict)
    stable: dict[int, Waiting] = field(default_factory=dict)

    def take(self, shots: int, here: Waiting, *, canary: bool) -> bool:
        """Take in a value of one side; whether there is something to say: another verdict, or the order once more."""
        mine, others = (self.canary, self.stable) if canary else (self.stable, self.canary)
        other = others.get(shots)
        if other is None or abs(here.at - other.at) > _PAIR_SECONDS:
            _keep(mine, shots, here)
        else:
            del others[shots]
            pair = (here, other) if canary else (other, here)
            self.comparison.add(*(each.value for each in pair))  # type: ignore[arg-type]
            verdict = self.comparison.verdict()
            if verdict not in {self.said, "not_enough_runs"}:
                self.said = verdict
                return True
        return canary and self.said == "worse" and here.at - self.ordered_at >= _AGAIN_SECONDS


class Canary(Struct, array_like=True):
    """The comparison of one signal of one stream, for every canary release seen lately."""

    releases: dict[str, Release] = field(default_factory=dict)

    def take(self, value: float | str, shots: int, at: float, release: str | None, watched: float) -> list[str]:
        """Take in a value, of the stable release if that is None; the releases of which there is something to say."""
        here = Waiting(value, at)
        if release is None:
            return [name for name, one in self.releases.items() if one.take(shots, here, canary=False)]
        found = self.releases.pop(release, None) or Release(
            Homogeneity() if isinstance(value, str) else Comparison(), ordered_at=at
        )
        self.releases[release] = found
        found.heard_at = watched
        return [release] if found.take(shots, here, canary=True) else []

    def gone(self, watched: float) -> list[tuple[str, Release]]:
        """Forget releases that sent nothing for a day, and the oldest of too many; returns them."""
        late = [name for name, one in self.releases.items() if watched - one.heard_at > _SILENT_SECONDS]
        late += [name for name in self.releases if name not in late][: max(len(self.releases) - len(late) - _KEPT, 0)]
        return [(name, self.releases.pop(name)) for name in late]


K = TypeVar("K")
V = TypeVar("V")


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    """Keep a value as the newest of a few; the oldest gives way."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]


def compared(signal: str, observation: Observation, readings: Mapping[str, tuple[float, ...]]) -> float | str | None:
    """What is compared of a signal: a number of which more is better, or a decision."""
    if signal == "decision":
        return observation.outcome
    values = readings.get(signal)
    if values is None:
        return None
    return -as_one(values) if signal == "error_rate" else values[0]


def verdict(
    comparison: Comparison | Homogeneity,
    labels: dict[str, str],
    source: tuple[str, int],
    observation: Observation,
    at: float,
) -> Alert:
    """The alert that says a verdict.

    Parameters
    ----------
    comparison
        The comparison as it stands.
    labels
        workload, backend, signal, release and verdict.
    source, observation
        Where the observation that decided it is from, and that observation.
    at
        When it was decided, by the log's clock, seconds since the epoch.
    """
    return Alert(
        alert_id=outcome_id("alert", CANARY_ALERT, *labels.values(), *source, observation.offset),
        fingerprint=condition(CANARY_ALERT, labels),
        name=CANARY_ALERT,
        severity=_SEVERITIES[labels["verdict"]],
        status="firing",
        at=instant(at),
        labels=labels,
        summary=_summary(comparison, labels),
        figures={"pairs": float(comparison.pairs), **comparison.evidence()},
        run_ids=(observation.run_id,),
        notes={
            "guarantee": f"wrong with probability at most {comparison.alpha:g}, ever, for each signal of each stream "
            "and release"
        },
    )


def rollback(
    comparison: Comparison | Homogeneity,
    labels: dict[str, str],
    source: tuple[str, int],
    observation: Observation,
    at: float,
) -> Directive:
    """The order to roll a worse release back, with the parameters of `verdict`."""
    return Directive(
        directive_id=outcome_id("directive", ROLLBACK_CANARY, *labels.values(), *source, observation.offset),
        directive=ROLLBACK_CANARY,
        target=stream_target(labels),
        reason=_summary(comparison, labels),
        issued_at=instant(at),
        expires_at=instant(at + _DIRECTIVE_SECONDS),
    )


def _summary(comparison: Comparison | Homogeneity, labels: dict[str, str]) -> str:
    where = f"{labels['signal']} of canary {labels['release']} of {labels['workload']} on {labels['backend']}"
    return f"{where} is {labels['verdict']} after {comparison.pairs} pairs"
