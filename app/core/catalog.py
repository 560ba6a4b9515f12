"""What a worker knows of its deployment, as frozen values: labels, ideals, watches, times.

None of it decides on a run: what does is the policy's, and signed with it (`app.core.standards`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from app.core.events import Tier
from app.core.fidelity import Ideal
from app.core.reproducibility import Replays
from detectors import Baseline

#: The label value of everything the catalog does not name, so that no producer can grow a metric.
OTHER: Final = "other"
UNKNOWN: Final = "unknown"
#: The backend of signals that job events carry: which one ran may not be known yet when a decision comes.
ANY: Final = "any"
TIERS: Final = ("low", "medium", "high")
RUNTIMES: Final = ("classical", "quantum", "hybrid")


class Workload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workload: what it may be used for, how critical it is, how well its decisions must be explained."""

    #: The lowest tier that a run of it may declare.
    tier: Tier
    purposes: tuple[str, ...]
    #: Whether the task has one right answer, so that a replay must give it again.
    deterministic: bool = False
    #: Whether somebody waits for its answer.
    synchronous: bool = False
    #: The least explanation score, in [0, 1], that counts as explained.
    explanation_floor: Annotated[float, Meta(ge=0, le=1)]
    #: The outcome whose share (the selection rate) is watched; None if there is no such thing.
    favourable: str | None = None


class Watch(Struct, frozen=True, forbid_unknown_fields=True):
    """A signal bound to a model or detector of the registry."""

    detector: str
    parameters: Mapping[str, Any]
    #: Observations a baseline is learned from, where none is given.
    learn: int = 200
    #: Observations it grows to while nothing happens.
    grow: int = 3200
    #: Its part of the promised false alerts, beside the shares of the other watches.
    share: float = 1.0
    transform: Literal["log"] | None = None


class Promise(Struct, frozen=True, forbid_unknown_fields=True):
    """What is promised of drift alerts, for all streams of the deployment together."""

    #: The expected number of false ones, at most.
    false_alerts_per_week: float
    #: After so many seconds a change that stays is said once more.
    cool_down_seconds: float
    #: A fall of fidelity by this much or more pages.
    collapse: float
    #: A wait in the queue that is longer by this factor or more pages.
    pileup: float = 4.0
    #: Probability that the truth is further from a learned baseline than is allowed for: such a stream rings.
    doubt: float = 0.001


class VarianceWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """How the fidelity variance (M4) is judged, in observations of one stream."""

    #: Observations the baseline variance is learned from.
    baseline: int
    #: Observations in a window.
    size: int
    #: The largest good ratio of window to baseline variance.
    limit: float


class SpendWatch(Struct, frozen=True, forbid_unknown_fields=True):
    """When the spending of a cost center pages."""

    #: At so many times its baseline, over so many seconds.
    factor: Annotated[float, Meta(gt=1)]
    window_seconds: Annotated[float, Meta(ge=10, le=3600)]
    #: What came before the window: over so much at most, and so much at least.
    baseline_seconds: Annotated[float, Meta(ge=60, le=86_400)]
    learn_seconds: Annotated[float, Meta(ge=10, le=86_400)]
    #: The baseline is at least this share of the budget: where next to nothing is spent, twice of it is nothing.
    floor_share: Annotated[float, Meta(ge=0, le=1)]


class Maintenance(Struct, frozen=True, forbid_unknown_fields=True):
    """A window in which alerts with these labels are silenced."""

    id: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,100}$")]
    begins: datetime
    ends: datetime
    #: Label -> value. At least one: a window for everything would hide everything.
    matchers: Annotated[Mapping[str, str], Meta(min_length=1)]
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    by: Annotated[str, Meta(min_length=1, max_length=100)]


class Alerting(Struct, frozen=True, forbid_unknown_fields=True):
    """When alerts that no detector raises begin and end, and when nobody is told."""

    #: A condition that nothing is heard of for so long has ended.
    quiet_seconds: Annotated[float, Meta(ge=1, le=86_400)]
    spend: SpendWatch
    replays: Replays
    maintenance: tuple[Maintenance, ...] = ()


class Catalog(Struct, frozen=True):
    """Everything the stages need to know about the deployment."""

    workloads: Mapping[str, Workload]
    ideals: Mapping[str, Ideal]
    backends: frozenset[str]
    providers: frozenset[str]
    watches: Mapping[str, tuple[Watch, ...]]
    promise: Promise
    #: (stream key, signal, detector) -> what the stream is held against from the start.
    baselines: Mapping[tuple[str, str, str], Baseline]
    variance: VarianceWindow
    alerting: Alerting
    #: Seconds from being complete to closing, for what is not required but on its way.
    settle_seconds: float
    #: Seconds from a terminal state to closing a run that is not complete.
    grace_seconds: float
    #: Seconds from a run's first event to closing it as abandoned, where it declares none.
    deadline_seconds: float
    #: Seconds the events of a closed run are remembered one by one.
    closed_retention_seconds: float
    #: Seconds a missing sequence number may be on its way before it counts as lost.
    sequence_grace_seconds: float

    def workload(self, name: str | None) -> str:
        """The label of a workload."""
        return _label(name, self.workloads)

    def backend(self, name: str | None) -> str:
        """The label of a backend."""
        return _label(name, self.backends)

    def provider(self, name: str | None) -> str:
        """The label of a provider."""
        return _label(name, self.providers)


def _label(name: str | None, known: Mapping[str, Any] | frozenset[str]) -> str:
    if name is None:
        return UNKNOWN
    return name if name in known else OTHER
