"""Drift (M10): every watched signal of every stream of a partition, and the promise about false alarms.

The promise is the setting: at most so many false drift alerts a week over all streams together. Each stream gets its
share of that as a rate, and each observation the rate times the time between the two before it as its *inflow*
(`detectors.mixture`): the expected number of false alerts it may add. So thresholds follow the streams' own rates, and
the sum over streams keeps the promise however they depend on each other (Dandapanthula, Ramdas 2025, arXiv
2501.04130, e-d-Bonferroni, with the budget spread over time instead of observations).

Detectors of River are objects, one a stream, and promise nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from math import log, nan
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from app.core.bitstrings import Bitstrings, unpacked, width_of
from app.core.catalog import Catalog, Watch
from app.core.outcomes import Observation
from detectors import DISTRIBUTIONS, MODELS, REGISTRY, Bank, Baseline, Change, DirichletMultinomial, Moved
from detectors.dirichlet_multinomial import MAX_WIDTH

_WEEK_SECONDS: Final = 604_800.0
#: A stream that was silent for longer does not come back with a larger allowance.
_MAX_SILENCE_SECONDS: Final = 86_400.0
#: The mean time between observations stands for about so many of the last, and forgets as fast as that.
_REMEMBERED: Final = 50
_FORGETTING: Final = 1 / _REMEMBERED
#: What is told apart in one stream (numbers of shots, widths of circuits), at most.
_LANES: Final = 8
#: A spread on a logarithm below this is a constant with its rounding.
_LEAST_LOG_SPREAD: Final = 0.01
#: Steps of a quarter: the R10 series of preferred numbers (ISO 3:1973).
_PREFERRED: Final = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)


class Offer(NamedTuple):
    """An observation of a stream, where it is from and when it came.

    Parameters
    ----------
    number
        Its place among what was offered since the last flush.
    key, source
        The stream, and the partition of `results`.
    at
        When it was made, in seconds since the epoch, and not after it was seen.
    readings
        Signal -> its reading, of those it has.
    runs, bitstrings
        The last runs of its stream, and their outcomes.
    """

    number: int
    key: str
    source: tuple[str, int]
    at: float
    observation: Observation
    readings: Mapping[str, tuple[float, ...]]
    runs: list[str]
    bitstrings: Bitstrings


class Epoch(Struct, frozen=True, array_like=True):
    """The calibration of a stream, the one before, and the number of the observation that it came with."""

    calibration: str | None = None
    before: str | None = None
    #: None before any recalibration.
    began: int | None = None


class Firing(Struct, frozen=True, array_like=True):
    """An alert that has not ended: which, and at which second watched it was raised."""

    alert_id: str
    name: str
    severity: str
    at: float


class Place(Struct, array_like=True):
    """Where a stream is in time, by the observations that have the signal."""

    at: float = 0.0
    #: The time between the last two observations, and its mean.
    gap_seconds: float = 0.0
    mean_gap_seconds: float = 0.0
    seen: int = 0
    epoch: Epoch = Epoch()

    def take(self, at: float, calibration: str | None) -> float:
        """Take in an observation; returns the time for which it has an allowance.

        That is the time between the two before it: a long job takes long to come, so its own gap knows its value.
        """
        allowed, seen, gap_seconds = self.gap_seconds, self.seen, 0.0
        if at > self.at:
            if seen:
                gap_seconds = min(at - self.at, _MAX_SILENCE_SECONDS)
            self.at = at
        if seen:
            share = 1 / seen if seen < _REMEMBERED else _FORGETTING
            self.mean_gap_seconds += (gap_seconds - self.mean_gap_seconds) * share
        self.gap_seconds = gap_seconds
        self.seen = seen + 1
        known = self.epoch.calibration
        if calibration is not None and calibration != known:
            self.epoch = Epoch(calibration) if known is None else Epoch(calibration, known, self.seen)
        return allowed


class Seen(NamedTuple):
    """An observation as the `number`-th of its stream and signal: so an alert does not depend on how the log is cut."""

    offer: Offer
    lane: str
    number: int
    epoch: Epoch
    mean_gap_seconds: float


#: The fields of a `Seen`. Of all that are offered few are found to be a change, and only for those one is made.
_Seen = tuple[Offer, str, int, Epoch, float]


class Found(NamedTuple):
    """A change that a watch found, or its end, and where.

    What is known of it depends on the watch: a model gives a `change`, a distribution says what `moved`, River's
    detectors give neither.
    """

    seen: Seen
    watch: "Watched"
    value: float
    change: Change | None = None
    baseline: Baseline | None = None
    moved: Moved | None = None


class Ended(NamedTuple):
    """What another configuration ended: an alert that was firing, or only a baseline that was held."""

    labels: dict[str, str]
    firing: Firing | None
    why: str


class _Snapshot(Struct, array_like=True):
    """A watch's state: the place of each lane, what is firing, and that of the detectors."""

    identity: str
    signal: str
    detector: str
    places: dict[str, Place]
    firing: dict[str, Firing]
    state: list[bytes]


def readings(observation: Observation) -> dict[str, tuple[float, ...]]:
    """The signals that an observation has: a value each; of a count, (count, of)."""
    found: dict[str, tuple[float, ...]] = {}
    if observation.fidelity is not None:
        found["fidelity"] = (observation.fidelity,)
    if observation.shots:
        if observation.errors is not None:
            found["error_rate"] = (float(observation.errors), float(observation.shots))
        if observation.outcomes is not None:  # the number of shots stands for the whole distribution
            found["counts"] = (float(observation.shots),)
    if observation.queue_seconds is not None:
        found["queue_seconds"] = (observation.queue_seconds,)
    if observation.execution_seconds is not None:
        found["execution_seconds"] = (observation.execution_seconds,)
    if observation.cost_usd is not None:
        found["cost_usd"] = (observation.cost_usd,)
    if observation.explanation_score is not None:
        found["explanation_score"] = (observation.explanation_score,)
    if observation.decision is not None:
        found["decision"] = (observation.decision,)
    return found


@lru_cache(maxsize=4096)
def preferred(shots: int) -> str:
    """A number of shots rounded down to a preferred number: results of about as many vary about as much."""
    if shots < 1:
        return "0"
    decade = 10 ** (len(str(shots)) - 1)
    return f"{max(number for number in _PREFERRED if number * decade <= shots) * decade:g}"


def labels_of(signal: str, detector: str, lane: str) -> dict[str, str]:
    """What tells the alerts of a lane from others."""
    workload, backend, alike = lane.split("\x1f")
    labels = {"workload": workload, "backend": backend, "signal": signal, "detector": detector}
    if alike:
        labels["width" if signal == "counts" else "shots"] = alike
    return labels


def as_one(values: tuple[float, ...]) -> float:
    """A reading as one number: the value, or count / of; NaN of nothing."""
    if len(values) == 1:
        return values[0]
    count, of = values
    return count / of if of else nan


class Watched(ABC):
    """What a watch with a model and one without have in common: the places of their lanes.

    A *lane* is what is alike in a stream: of fidelity the results of about as many shots, as with fewer it varies more;
    of whole distributions those of circuits of one width.

    Parameters
    ----------
    signal, watch
        What is watched, and how.
    """

    columns = 1
    #: What it is of the signal that changes.
    quantity = "mean"

    def __init__(self, signal: str, watch: Watch) -> None:
        self.signal = signal
        self.watch = watch
        self.places: dict[str, Place] = {}
        #: Lane -> its alert that has not ended.
        self.firing: dict[str, Firing] = {}
        self._lanes: dict[str, int] = {}
        self._refused = 0

    @property
    def identity(self) -> str:
        """What a state may be restored into: the same signal, detector, parameters and learning."""
        parameters = sorted(self.watch.parameters.items())
        learning = f"{self.watch.learn}/{self.watch.grow}"
        return f"{self.signal}/{self.watch.detector}/{parameters}/{learning}/{self.watch.transform}"

    def labels(self, lane: str) -> dict[str, str]:
        """What tells the alerts of a lane from others."""
        return labels_of(self.signal, self.watch.detector, lane)

    def offer(self, offer: Offer) -> None:
        """Take in an observation that has the signal, or put it into the batch that `flush` takes in."""
        values = self._shaped(offer.readings[self.signal])
        lane = None if values is None else self._lane(offer)
        if values is None or lane is None:
            self._refused += 1
            return
        place = self.places[lane]
        allowed = place.take(offer.at, offer.observation.calibration_id)
        self._take(lane, values, allowed, (offer, lane, place.seen, place.epoch, place.mean_gap_seconds))

    def _lane(self, offer: Offer) -> str | None:
        """The lane of an observation; None if its stream has too many already."""
        alike = ""
        if self.signal == "fidelity":
            alike = preferred(offer.observation.shots or 0)
        elif self.signal == "counts":
            alike = str(width_of(offer.observation.outcomes or b""))
        lane = f"{offer.key}\x1f{alike}"
        if lane not in self.places:
            if self._lanes.get(offer.key, 0) >= _LANES or not self._open(lane, alike):
                return None
            self._lanes[offer.key] = self._lanes.get(offer.key, 0) + 1
            self.places[lane] = Place()
        return lane

    def _shaped(self, values: tuple[float, ...]) -> tuple[float, ...] | None:
        if len(values) > self.columns:  # a count offered to what takes proportions
            values = (as_one(values),)
        if self.watch.transform == "log":
            # Waiting and running times are skewed, and change by factors.
            return (log(values[0]),) if values[0] > 0 else None
        return values

    @abstractmethod
    def _open(self, lane: str, alike: str) -> bool:
        """Begin with a lane; False if it cannot be watched."""

    @abstractmethod
    def _take(self, lane: str, values: tuple[float, ...], allowed_seconds: float, seen: _Seen) -> None:
        """Take in the values of a lane."""

    @abstractmethod
    def flush(self) -> tuple[list[Found], int]:
        """Take in what was offered; what was found, and how many values could not be judged."""

    @abstractmethod
    def rearm(self, lane: str) -> None:
        """Let a lane alarm again."""

    @abstractmethod
    def rebaseline(self, lane: str) -> None:
        """Begin anew with a lane: with the baseline it was given, or by learning one."""

    @abstractmethod
    def states(self) -> list[bytes]:
        """The state of the detectors."""

    def restore(self, places: dict[str, Place], states: list[bytes]) -> list[str]:
        """Continue from a state; the lanes for which another baseline is given now than was then."""
        self.places = places
        for lane in places:
            key = lane.rpartition("\x1f")[0]
            self._lanes[key] = self._lanes.get(key, 0) + 1
        return self._restore(states)

    @abstractmethod
    def _restore(self, states: list[bytes]) -> list[str]:
        """Continue from the state of the detectors; see `restore`."""


class Modelled(Watched):
    """A watch with a model: one bank for all lanes.

    Parameters
    ----------
    signal, watch
        What is watched, and how.
    catalog
        Baselines that are given, and the doubt in those that are learned.
    alerts_per_second
        The rate of false alerts that all streams of this watch together may have.
    """

    def __init__(self, signal: str, watch: Watch, catalog: Catalog, alerts_per_second: float) -> None:
        super().__init__(signal, watch)
        self._given = {
            key: baseline
            for (key, of, detector), baseline in catalog.baselines.items()
            if (of, detector) == (signal, watch.detector)
        }
        self._rate = alerts_per_second
        parameters = dict(watch.parameters)
        if watch.transform == "log" and watch.detector == "gaussian":
            parameters = {"least_spread": _LEAST_LOG_SPREAD, **parameters}
        self.bank = Bank(
            MODELS[watch.detector](**parameters), learn=watch.learn, grow=watch.grow, doubt=catalog.promise.doubt
        )
        self.columns, self.quantity = self.bank.model.columns, self.bank.model.quantity
        self._rows: dict[str, int] = {}
        self._waiting: list[tuple[int, tuple[float, ...], float, _Seen]] = []

    def _held_against(self, lane: str) -> Baseline | None:
        return self._given.get(lane.rpartition("\x1f")[0])

    def _open(self, lane: str, alike: str) -> bool:
        self._rows[lane] = self.bank.add(self._held_against(lane))
        return True

    def _take(self, lane: str, values: tuple[float, ...], allowed_seconds: float, seen: _Seen) -> None:
        self._waiting.append((self._rows[lane], values, self._rate / len(self._rows) * allowed_seconds, seen))

    def flush(self) -> tuple[list[Found], int]:
        """Take in what was offered; what was found, and how many values could not be judged."""
        waiting, refused = self._waiting, self._refused
        self._waiting, self._refused = [], 0
        if not waiting:
            return [], refused
        count = len(waiting)
        row, given, allowed, _ = zip(*waiting, strict=True)
        rows = np.fromiter(row, np.intp, count)
        values = np.fromiter(chain.from_iterable(given), np.float64, count * self.columns).reshape(count, self.columns)
        inflow = np.fromiter(allowed, np.float64, count)
        taken = self.bank.model.accepts(values)
        if not taken.all():
            refused += int((~taken).sum())
            rows, values, inflow = rows[taken], values[taken], inflow[taken]
            waiting = [waiting[place] for place in np.flatnonzero(taken).tolist()]
        found = []
        for change in self.bank.update(rows, values, inflow):
            _, value, _, seen = waiting[change.place]
            found.append(Found(Seen(*seen), self, as_one(value), change, self.bank.baseline(change.row)))
        return found, refused

    def rearm(self, lane: str) -> None:
        """Let a lane alarm again."""
        self.bank.rearm(self._rows[lane])

    def rebaseline(self, lane: str) -> None:
        """Begin anew with a lane: with the baseline it was given, or by learning one."""
        self.bank.rebaseline(self._rows[lane], self._held_against(lane))

    def states(self) -> list[bytes]:
        """The state of the bank."""
        return [self.bank.snapshot()]

    def _restore(self, states: list[bytes]) -> list[str]:
        self.bank.restore(states[0])
        self._rows = {lane: row for row, lane in enumerate(self.places)}
        changed = []
        for lane, row in self._rows.items():
            held, given = self.bank.baseline(row), self._held_against(lane)
            was_given = held is not None and held.kind != "learned"
            if held != given and (given is not None or was_given):
                self.bank.rebaseline(row, given)
                changed.append(lane)
        return changed


class _Objects(Watched):
    """A watch whose detectors are objects, one a lane."""

    def __init__(self, signal: str, watch: Watch) -> None:
        super().__init__(signal, watch)
        self._detectors: dict[str, Any] = {}
        self._found: list[Found] = []

    def flush(self) -> tuple[list[Found], int]:
        """What was found since the last time."""
        found, refused, self._found, self._refused = self._found, self._refused, [], 0
        return found, refused

    def rebaseline(self, lane: str) -> None:
        """Begin anew with a lane."""
        self._open(lane, lane.rpartition("\x1f")[2])

    def states(self) -> list[bytes]:
        """The state of every detector."""
        return [self._detectors[lane].snapshot() for lane in self.places]

    def _restore(self, states: list[bytes]) -> list[str]:
        for lane, state in zip(self.places, states, strict=True):
            self.rebaseline(lane)
            self._detectors[lane].restore(state)
        return []


class Distributed(_Objects):
    """A watch of whole distributions.

    Parameters
    ----------
    signal, watch
        What is watched, and how.
    doubt
        That in a learned baseline.
    alerts_per_second
        The rate of false alerts that all streams of this watch together may have.
    """

    def __init__(self, signal: str, watch: Watch, doubt: float, alerts_per_second: float) -> None:
        super().__init__(signal, watch)
        self._doubt = doubt
        self._rate = alerts_per_second

    def _open(self, lane: str, alike: str) -> bool:
        if not 1 <= int(alike) <= MAX_WIDTH:
            return False
        self._detectors[lane] = distribution(self.watch, self._doubt, int(alike))
        return True

    def _take(self, lane: str, values: tuple[float, ...], allowed_seconds: float, seen: _Seen) -> None:
        counts = unpacked(seen[0].observation.outcomes or b"\x80")
        moved = self._detectors[lane].update(counts, self._rate / len(self._detectors) * allowed_seconds)
        if moved is not None:
            self._found.append(Found(Seen(*seen), self, values[0], moved=moved))

    def rearm(self, lane: str) -> None:
        """Let a lane alarm again."""
        self._detectors[lane].rearm()


class Unpromised(_Objects):
    """A watch with one of River's detectors."""

    def _open(self, lane: str, alike: str) -> bool:
        self._detectors[lane] = REGISTRY[self.watch.detector](**self.watch.parameters)
        return True

    def _take(self, lane: str, values: tuple[float, ...], allowed_seconds: float, seen: _Seen) -> None:
        detector = self._detectors[lane]
        detector.update(values[0])
        if detector.drift_detected:
            self._found.append(Found(Seen(*seen), self, values[0]))

    def rearm(self, lane: str) -> None:
        """Nothing: these detectors begin anew by themselves."""


def distribution(watch: Watch, doubt: float, width: int) -> DirichletMultinomial:
    """The detector of whole distributions that a watch asks for.

    Raises
    ------
    ValueError, TypeError
        If its parameters are other than `sizes`, or out of range.
    """
    if set(watch.parameters) - {"sizes"}:
        raise ValueError(f"{watch.detector} takes sizes, not {', '.join(watch.parameters)}")
    sizes = {name: tuple(value) for name, value in watch.parameters.items()}
    return DISTRIBUTIONS[watch.detector](width, learn=watch.learn, doubt=doubt, **sizes)


class Drift:
    """Every watch of one partition.

    Parameters
    ----------
    catalog
        Watches, baselines, and the promise.
    partitions
        The promise is for the deployment; a partition has its part of it.
    """

    def __init__(self, catalog: Catalog, partitions: int) -> None:
        self._catalog = catalog
        self._partitions = partitions
        self._begin()

    def _begin(self) -> None:
        self.watches = self._build()
        self._watching: dict[str, list[Watched]] = {}
        for watch in self.watches:
            self._watching.setdefault(watch.signal, []).append(watch)

    def _build(self) -> list[Watched]:
        watched = [(signal, watch) for signal, watches in self._catalog.watches.items() for watch in watches]
        total = sum(watch.share for _, watch in watched if watch.detector not in REGISTRY)
        fleet = self._catalog.promise.false_alerts_per_week / _WEEK_SECONDS / self._partitions
        built: list[Watched] = []
        for signal, watch in watched:
            if watch.detector in MODELS:
                built.append(Modelled(signal, watch, self._catalog, fleet * watch.share / total))
            elif watch.detector in DISTRIBUTIONS:
                doubt = self._catalog.promise.doubt
                built.append(Distributed(signal, watch, doubt, fleet * watch.share / total))
            else:
                built.append(Unpromised(signal, watch))
        return built

    def offer(self, offer: Offer) -> None:
        """Offer an observation to every watch whose signal it has."""
        for signal in offer.readings:
            for watch in self._watching.get(signal, ()):
                watch.offer(offer)

    def flush(self) -> tuple[list[Found], dict[str, int]]:
        """Take everything in: what was found, as it was offered, and how many values of each signal were refused."""
        found: list[Found] = []
        refused: dict[str, int] = {}
        for watch in self.watches:
            more, count = watch.flush()
            found += more
            if count:
                refused[watch.signal] = refused.get(watch.signal, 0) + count
        found.sort(key=lambda one: one.seen.offer.number)
        return found, refused

    def cooled_down(self, watched: float) -> Iterator[tuple[Watched, str, Firing]]:
        """Arm again what has been out for the cool-down at that second watched: a change that stays is said again."""
        for watch in self.watches:
            for lane, firing in list(watch.firing.items()):
                if watched - firing.at >= self._catalog.promise.cool_down_seconds:
                    del watch.firing[lane]
                    watch.rearm(lane)
                    yield watch, lane, firing

    def rebaseline(self, key: str, signal: str) -> Iterator[tuple[Watched, str, Firing | None]]:
        """Let a signal of a stream begin anew; the watches and lanes that had it, and what was firing."""
        for watch in self.watches:
            for lane in watch.places if watch.signal == signal else ():
                if lane.rpartition("\x1f")[0] == key:
                    watch.rebaseline(lane)
                    yield watch, lane, watch.firing.pop(lane, None)

    def snapshot(self) -> list[bytes]:
        """The whole state."""
        return [
            msgspec.msgpack.encode(
                _Snapshot(
                    watch.identity, watch.signal, watch.watch.detector, watch.places, watch.firing, watch.states()
                )
            )
            for watch in self.watches
        ]

    def restore(self, states: Sequence[bytes]) -> list[Ended]:
        """Continue from a state; a watch that was added or changed since starts anew.

        Returns
        -------
        What ended by that: alerts of watches that are no more, and baselines that are now others.
        """
        found: dict[str, Any] = {}
        for state in states:
            one = msgspec.msgpack.decode(state, type=_Snapshot)
            found[one.identity] = one
        self._begin()
        ended = []
        for watch in self.watches:
            known = found.pop(watch.identity, None)
            if known is not None:
                watch.firing = known.firing
                for lane in watch.restore(known.places, known.state):
                    firing = watch.firing.pop(lane, None)
                    ended.append(Ended(watch.labels(lane), firing, "another baseline is given"))
        for gone in found.values():
            for lane, firing in gone.firing.items():
                ended.append(Ended(labels_of(gone.signal, gone.detector, lane), firing, "it is no longer watched so"))
        return ended
