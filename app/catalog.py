"""`policies/*.yaml` to frozen core values, or an error with file, line and key."""

from collections.abc import Callable
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from app.core.catalog import ANY, Alerting, Catalog, Promise, VarianceWindow, Watch, Workload
from app.core.drift import distribution
from app.core.evidence import Requirements
from app.core.fidelity import Ideal
from app.core.results import stream_key
from app.core.standards import CostCenter
from app.core.streams import SIGNALS
from app.documents import read, unusable
from detectors import DISTRIBUTIONS, MODELS, REGISTRY, Bank, Baseline

_MOST_LEARNED: Final = 1_000_000
#: Beside the checkout: `policies/` is data, so it is not inside a package.
DEFAULT_DIRECTORY = Path(__file__).resolve().parent.parent / "policies"


class CatalogFile(Struct, frozen=True, forbid_unknown_fields=True):
    """`catalog.yaml`."""

    workloads: dict[str, Workload]
    providers: list[str]
    backends: list[str]
    cost_centers: dict[str, CostCenter]
    ideals: dict[str, dict[str, float]]


class _Closing(Struct, frozen=True, forbid_unknown_fields=True):
    settle_seconds: float
    grace_seconds: float
    deadline_seconds: float
    closed_retention_seconds: float
    sequence_grace_seconds: float


class EvidenceFile(Struct, frozen=True, forbid_unknown_fields=True):
    """`evidence.yaml`: when runs close, and what the policy requires of them."""

    closing: _Closing
    tiers: dict[str, Requirements]


class _Given(Struct, frozen=True, forbid_unknown_fields=True):
    workload: str
    backend: str
    signal: str
    detector: str
    location: float
    spread: float
    kind: Literal["catalog", "synthetic"]
    source: str


class _DetectorsFile(Struct, frozen=True, forbid_unknown_fields=True):
    promise: Promise
    watches: dict[str, tuple[Watch, ...]]
    variance: VarianceWindow
    baselines: tuple[_Given, ...] = ()


def load_catalog(directory: Path = DEFAULT_DIRECTORY) -> Catalog:
    """Read the catalog.

    Raises
    ------
    SettingError
        If a file is missing or says something that cannot be used; it names the file and the key.
    """
    known = read(directory / "catalog.yaml", CatalogFile)
    closing = read(directory / "evidence.yaml", EvidenceFile)
    detection = read(directory / "detectors.yaml", _DetectorsFile)
    return Catalog(
        workloads=known.workloads,
        ideals=_ideals(directory / "catalog.yaml", known.ideals),
        backends=frozenset(known.backends),
        providers=frozenset(known.providers),
        watches=_watches(directory / "detectors.yaml", detection.watches, detection.promise.doubt),
        promise=_promise(directory / "detectors.yaml", detection.promise),
        baselines=_baselines(directory / "detectors.yaml", detection, known),
        variance=detection.variance,
        alerting=_alerting(directory / "alerting.yaml"),
        settle_seconds=closing.closing.settle_seconds,
        grace_seconds=closing.closing.grace_seconds,
        deadline_seconds=closing.closing.deadline_seconds,
        closed_retention_seconds=closing.closing.closed_retention_seconds,
        sequence_grace_seconds=closing.closing.sequence_grace_seconds,
    )


def _ideals(path: Path, ideals: dict[str, dict[str, float]]) -> dict[str, Ideal]:
    prepared = {}
    for name, probabilities in ideals.items():
        try:
            prepared[name] = Ideal(probabilities)
        except ValueError as error:
            raise unusable(path, f"ideals.{name}", str(error)) from error
    return prepared


def _watches(path: Path, watches: dict[str, tuple[Watch, ...]], doubt: float) -> dict[str, tuple[Watch, ...]]:
    for signal, watched in watches.items():
        if signal not in SIGNALS:
            raise unusable(path, f"watches.{signal}", f"there is no signal {signal!r}; there are {', '.join(SIGNALS)}")
        for watch in watched:
            key = f"watches.{signal}"
            known: dict[str, Callable[..., object]] = {**MODELS, **REGISTRY}
            if signal == "counts":
                known = {name: lambda watch=watch, **_: distribution(watch, doubt, 1) for name in DISTRIBUTIONS}
            if watch.detector not in known:
                raise unusable(path, key, f"there is no detector {watch.detector!r}; there are {', '.join(known)}")
            if not 0 < watch.share < inf or not 2 <= watch.learn <= _MOST_LEARNED or watch.grow > _MOST_LEARNED:
                raise unusable(path, key, f"share is above 0, learn at least 2, and both at most {_MOST_LEARNED:,}")
            if sum(other.detector == watch.detector for other in watched) > 1:
                raise unusable(path, key, f"{watch.detector} is there twice: their alerts could not be told apart")
            try:
                model = known[watch.detector](**watch.parameters)
            except (TypeError, ValueError) as error:
                raise unusable(path, key, str(error)) from error
            if getattr(model, "columns", 1) == 2 and signal != "error_rate":
                raise unusable(path, key, f"{watch.detector} takes counts, and {signal} is none")
    return watches


#: What is silenced for longer is no maintenance.
_LONGEST_MAINTENANCE: Final = timedelta(days=14)


def _alerting(path: Path) -> Alerting:
    found = read(path, Alerting)
    for number, window in enumerate(found.maintenance):
        key = f"maintenance[{number}]"
        if window.begins.tzinfo is None or window.ends.tzinfo is None:
            raise unusable(path, key, "begins and ends need a time zone, e.g. 2026-11-23T02:00:00Z")
        if not timedelta() < window.ends - window.begins <= _LONGEST_MAINTENANCE:
            raise unusable(path, key, f"it ends after it begins, and within {_LONGEST_MAINTENANCE.days} days")
        if len({other.id for other in found.maintenance[: number + 1]}) <= number:
            raise unusable(path, key, f"there are two windows {window.id}")
    if found.spend.learn_seconds > found.spend.baseline_seconds:
        raise unusable(path, "spend.learn_seconds", "it is at most baseline_seconds")
    return found


def _promise(path: Path, promise: Promise) -> Promise:
    finite = 0 < promise.false_alerts_per_week < inf and 0 < promise.cool_down_seconds < inf
    if not finite or not 0 < promise.collapse <= 1 or not promise.pileup > 1 or not 0 < promise.doubt < 0.5:
        raise unusable(path, "promise", "its numbers are above 0, collapse at most 1, pileup above 1, doubt below 0.5")
    return promise


def _baselines(
    path: Path, detection: _DetectorsFile, known: CatalogFile
) -> dict[tuple[str, str, str], Baseline]:  # fmt: skip
    found: dict[tuple[str, str, str], Baseline] = {}
    for number, given in enumerate(detection.baselines):
        key = f"baselines[{number}]"
        if given.workload not in known.workloads or given.backend not in (*known.backends, ANY):
            raise unusable(path, key, f"the catalog has no {given.workload!r} on {given.backend!r}")
        watch = next(
            (each for each in detection.watches.get(given.signal, ()) if each.detector == given.detector), None
        )
        if watch is None or watch.detector not in MODELS:
            raise unusable(path, key, f"no model {given.detector!r} watches {given.signal!r}")
        baseline = Baseline(given.location, given.spread, given.kind)
        try:
            Bank(MODELS[watch.detector](**watch.parameters)).add(baseline)
        except ValueError as error:
            raise unusable(path, key, str(error)) from error
        found[stream_key(given.workload, given.backend), given.signal, given.detector] = baseline
    return found
