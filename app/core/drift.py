"""Drift (M10): every watched signal of every stream of a partition, and the promise about false alarms.

The promise is the setting: at most so many false drift alerts a week over all streams together. Each stream gets its
share of that as a rate, and each observation the rate times the time between the two before it as its *inflow*
(`detectors.mixture`): the expected number of false alerts it may add. So thresholds follow the streams' own rates, and
the sum over streams keeps the promise however they depend on each other (Dandapanthula, Ramdas 2025, arXiv
2501.04130, e-d-Bonferroni, with the budget spread over time instead of observations).

Detectors of River are objects, one a stream, and promise nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, log, nan
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from app.core.bitstrings import Bitstrings, unpacked
from app.core.catalog import Catalog, Watch
from app.core.outcomes import Observation
from detectors import DISTRIBUTIONS, MODELS, REGISTRY, Bank, Baseline, Change, Detector, DirichletMultinomial, Moved
from detectors.dirichlet_multinomial import MAX_WIDTH

_WEEK_SECONDS: Final = 604_800.0
#: A stream that was silent for longer does not come back with a larger allowance.
_MAX_SILENCE_SECONDS: Final = 86_400.0
#: How fast the mean time between observations forgets.
_FORGETTING: Final = 0.02
#: Estimates of a fidelity that lie further outside [0, 1] are none.
_FIDELITY_RANGE: Final = (-0.25, 1.25)


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
        Signal -> what `reading` gives, of the signals it has.
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
        allowed, since = self.gap_seconds, at - self.at if self.seen else 0.0
        self.gap_seconds = min(max(since, 0.0), _MAX_SILENCE_SECONDS)
        self.at = max(self.at, at)
        if self.seen:
            self.mean_gap_seconds += (self.gap_seconds - self.mean_gap_seconds) * max(1 / self.seen, _FORGETTING)
        self.seen += 1
        known = self.epoch.calibration
        if calibration is not None and calibration != known:
            self.epoch = Epoch(calibration) if known is None else Epoch(calibration, known, self.seen)
        return allowed


class Seen(NamedTuple):
    """An observation as the `number`-th of its stream and signal: so an alert does not depend on how the log is cut."""

    offer: Offer
    number: int
    epoch: Epoch
    mean_gap_seconds: float


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


class _Snapshot(Struct, array_like=True):
    """A watch's state: the place of each stream, what is firing, and that of the detectors."""

    identity: str
    places: dict[str, Place]
    firing: dict[str, Firing]
    state: list[bytes]


def reading(signal: str, observation: Observation) -> tuple[float, ...] | None:
    """A signal's value in an observation; of a count, (count, of). None where it has none."""
    if signal == "error_rate":
        if observation.errors is None or not observation.shots:
            return None
        return float(observation.errors), float(observation.shots)
    if signal == "counts":  # of a whole distribution the number of shots stands for it
        return None if observation.outcomes is None or not observation.shots else (float(observation.shots),)
    value: float | None = getattr(observation, signal)
    return None if value is None else (value,)


def possible(signal: str, values: tuple[float, ...]) -> bool:
    """Whether a reading can be: finite, and of a fidelity not further outside [0, 1] than an estimate may be."""
    low, high = _FIDELITY_RANGE
    return low <= values[0] <= high if signal == "fidelity" else isfinite(values[0])


def as_one(values: tuple[float, ...]) -> float:
    """A reading as one number: the value, or count / of; NaN of nothing."""
    if len(values) == 1:
        return values[0]
    count, of = values
    return count / of if of else nan


class Watched:
    """What a watch with a model and one without have in common: their streams' places.

    Parameters
    ----------
    signal, watch
        What is watched, and how.
    """

    def __init__(self, signal: str, watch: Watch) -> None:
        self.signal = signal
        self.watch = watch
        self.places: dict[str, Place] = {}
        #: Stream -> its alert that has not ended.
        self.firing: dict[str, Firing] = {}

    @property
    def identity(self) -> str:
        """What a state may be restored into: the same signal, detector, parameters and learning."""
        parameters = sorted(self.watch.parameters.items())
        learning = f"{self.watch.learn}/{self.watch.grow}"
        return f"{self.signal}/{self.watch.detector}/{parameters}/{learning}/{self.watch.transform}"

    def offer(self, offer: Offer) -> None:
        """Put an observation that has the signal into the batch that `flush` takes in."""
        raise NotImplementedError

    def flush(self) -> tuple[list[Found], int]:
        """Take in what was offered; what was found, and how many values could not be judged."""
        raise NotImplementedError

    def rearm(self, key: str) -> None:
        """Let a stream alarm again."""

    def rebaseline(self, key: str) -> None:
        """Begin anew with a stream: with the baseline it was given, or by learning one."""
        raise NotImplementedError

    def states(self) -> list[bytes]:
        """The state of the detectors, in the order of the places."""
        raise NotImplementedError

    def restore(self, places: dict[str, Place], states: list[bytes]) -> None:
        """Continue from a state."""
        raise NotImplementedError


class Modelled(Watched):
    """A watch with a model: one bank for all streams.

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
        model = MODELS[watch.detector](**watch.parameters)
        self.bank = Bank(model, learn=watch.learn, grow=watch.grow, doubt=catalog.promise.doubt)
        self._rows: dict[str, int] = {}
        self._waiting: list[tuple[int, tuple[float, ...], float, Seen]] = []
        self._refused = 0

    def offer(self, offer: Offer) -> None:
        """Put an observation that has the signal into the batch that `flush` takes in."""
        key, values = offer.key, self._shaped(offer.readings[self.signal])
        if values is None:
            self._refused += 1
            return
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self.bank.add(self._given.get(key))
            self.places[key] = Place()
        place = self.places[key]
        allowed = place.take(offer.at, offer.observation.calibration_id)
        seen = Seen(offer, place.seen, place.epoch, place.mean_gap_seconds)
        self._waiting.append((row, values, self._rate / len(self._rows) * allowed, seen))

    def flush(self) -> tuple[list[Found], int]:
        """Take in what was offered; what was found, and how many values could not be judged."""
        waiting, refused = self._waiting, self._refused
        self._waiting, self._refused = [], 0
        if not waiting:
            return [], refused
        rows = np.array([row for row, *_ in waiting], dtype=np.intp)
        values = np.array([values for _, values, *_ in waiting], dtype=np.float64)
        inflow = np.array([allowance for _, _, allowance, _ in waiting])
        taken = self.bank.model.accepts(values)
        if not taken.all():
            refused += int((~taken).sum())
            rows, values, inflow = rows[taken], values[taken], inflow[taken]
            waiting = [waiting[place] for place in np.flatnonzero(taken).tolist()]
        found = []
        for change in self.bank.update(rows, values, inflow):
            _, value, _, seen = waiting[change.place]
            found.append(Found(seen, self, as_one(value), change, self.bank.baseline(change.row)))
        return found, refused

    def _shaped(self, values: tuple[float, ...]) -> tuple[float, ...] | None:
        if len(values) > self.bank.model.columns:  # a count offered to a model of proportions
            values = (as_one(values),)
        if self.watch.transform == "log":
            # Waiting and running times are skewed, and change by factors.
            return (log(values[0]),) if values[0] > 0 else None
        return values

    def rearm(self, key: str) -> None:
        """Let a stream alarm again."""
        self.bank.rearm(self._rows[key])

    def rebaseline(self, key: str) -> None:
        """Begin anew with a stream: with the baseline it was given, or by learning one."""
        self.bank.rebaseline(self._rows[key], self._given.get(key))

    def states(self) -> list[bytes]:
        """The state of the bank."""
        return [self.bank.snapshot()]

    def restore(self, places: dict[str, Place], states: list[bytes]) -> None:
        """Continue from a state. Where another baseline is given now than was then, it holds from here on.

        Raises
        ------
        ValueError
            If it is not of this watch.
        """
        self.bank.restore(states[0])
        self.places = places
        self._rows = {key: row for row, key in enumerate(places)}
        for key, row in self._rows.items():
            held, given = self.bank.baseline(row), self._given.get(key)
            was_given = held is not None and held.kind != "learned"
            if held != given and (given is not None or was_given):
                self.bank.rebaseline(row, given)


class Distributed(Watched):
    """A watch of whole distributions: an object a stream.

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
        #: A stream whose circuit changes its width gets another one.
        self._detectors: dict[str, DirichletMultinomial] = {}
        self._found: list[Found] = []
        self._refused = 0

    def offer(self, offer: Offer) -> None:
        """Take in an observation that has its outcomes."""
        key, counts = offer.key, unpacked(offer.observation.outcomes or b"\x80")
        width = len(next(iter(counts)))
        if width > MAX_WIDTH or any(len(outcome) != width for outcome in counts):
            self._refused += 1
            return
        detector = self._detectors.get(key)
        if detector is None or detector.width != width:
            detector = self._detectors[key] = self._new(width)
        place = self.places.setdefault(key, Place())
        allowed = place.take(offer.at, offer.observation.calibration_id)
        moved = detector.update(counts, self._rate / len(self._detectors) * allowed)
        if moved is not None:
            seen = Seen(offer, place.seen, place.epoch, place.mean_gap_seconds)
            self._found.append(Found(seen, self, offer.readings[self.signal][0], moved=moved))

    def _new(self, width: int) -> DirichletMultinomial:
        return DISTRIBUTIONS[self.watch.detector](
            width, learn=self.watch.learn, doubt=self._doubt, **self.watch.parameters
        )

    def flush(self) -> tuple[list[Found], int]:
        """What was found since the last time."""
        found, refused, self._found, self._refused = self._found, self._refused, [], 0
        return found, refused

    def rearm(self, key: str) -> None:
        """Let a stream alarm again."""
        self._detectors[key].rearm()

    def rebaseline(self, key: str) -> None:
        """Begin anew with a stream."""
        self._detectors[key] = self._new(self._detectors[key].width)

    def states(self) -> list[bytes]:
        """The width and state of every detector."""
        return [bytes([self._detectors[key].width]) + self._detectors[key].snapshot() for key in self.places]

    def restore(self, places: dict[str, Place], states: list[bytes]) -> None:
        """Continue from a state."""
        self.places = places
        for key, state in zip(places, states, strict=True):
            self._detectors[key] = self._new(state[0])
            self._detectors[key].restore(state[1:])


class Unpromised(Watched):
    """A watch with one of River's detectors: an object a stream."""

    def __init__(self, signal: str, watch: Watch) -> None:
        super().__init__(signal, watch)
        self._detectors: dict[str, Detector] = {}
        self._found: list[Found] = []

    def offer(self, offer: Offer) -> None:
        """Take in an observation that has the signal."""
        key, value = offer.key, as_one(offer.readings[self.signal])
        if key not in self._detectors:
            self._detectors[key] = REGISTRY[self.watch.detector](**self.watch.parameters)
            self.places[key] = Place()
        place, detector = self.places[key], self._detectors[key]
        place.take(offer.at, offer.observation.calibration_id)
        detector.update(value)
        if detector.drift_detected:
            seen = Seen(offer, place.seen, place.epoch, place.mean_gap_seconds)
            self._found.append(Found(seen, self, value))

    def flush(self) -> tuple[list[Found], int]:
        """What was found since the last time."""
        found, self._found = self._found, []
        return found, 0

    def rebaseline(self, key: str) -> None:
        """Begin anew with a stream."""
        self._detectors[key] = REGISTRY[self.watch.detector](**self.watch.parameters)

    def states(self) -> list[bytes]:
        """The state of every detector."""
        return [detector.snapshot() for detector in self._detectors.values()]

    def restore(self, places: dict[str, Place], states: list[bytes]) -> None:
        """Continue from a state."""
        self.places = places
        for key, state in zip(places, states, strict=True):
            self.rebaseline(key)
            self._detectors[key].restore(state)


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
        self.watches = self._build()

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
        for watch in self.watches:
            if watch.signal in offer.readings:
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
            for key, firing in list(watch.firing.items()):
                if watched - firing.at >= self._catalog.promise.cool_down_seconds:
                    del watch.firing[key]
                    watch.rearm(key)
                    yield watch, key, firing

    def rebaseline(self, key: str, signal: str) -> Iterator[tuple[Watched, Firing | None]]:
        """Let a signal of a stream begin anew; the watches that had it, and what was firing."""
        for watch in self.watches:
            if watch.signal == signal and key in watch.places:
                watch.rebaseline(key)
                yield watch, watch.firing.pop(key, None)

    def snapshot(self) -> list[bytes]:
        """The whole state."""
        return [
            msgspec.msgpack.encode(_Snapshot(watch.identity, watch.places, watch.firing, watch.states()))
            for watch in self.watches
        ]

    def restore(self, states: Sequence[bytes]) -> None:
        """Continue from a state; a watch that was added or changed since starts anew."""
        found: dict[str, Any] = {}
        for state in states:
            one = msgspec.msgpack.decode(state, type=_Snapshot)
            found[one.identity] = one
        self.watches = self._build()
        for watch in self.watches:
            known = found.get(watch.identity)
            if known is not None:
                watch.restore(known.places, known.state)
                watch.firing = known.firing
