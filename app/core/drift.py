"""Drift (M10): every watched signal of every stream of a partition, and the promise about false alarms.

The promise is the setting: at most so many false drift alerts a week over all streams together. Each stream gets its
share of that as a rate, and each observation the rate times the time between the two before it as its *inflow*
(`detectors.mixture`): the expected number of false alerts it may add. So thresholds follow the streams' own rates, and
the sum over streams keeps the promise however they depend on each other (Dandapanthula, Ramdas 2025, arXiv
2501.04130, e-d-Bonferroni, with the budget spread over time instead of observations).

Detectors of River are objects, one a stream, and promise nothing.
"""

from collections.abc import Sequence
from math import isfinite, log, nan
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from app.core.catalog import Catalog, Watch
from app.core.outcomes import Observation
from detectors import MODELS, REGISTRY, Bank, Baseline, Change, Detector

_WEEK_SECONDS: Final = 604_800.0
#: A stream that was silent for longer does not come back with a larger allowance.
_MAX_SILENCE_SECONDS: Final = 86_400.0


class Moment(NamedTuple):
    """A stream as it was when an observation came: so an alert does not depend on how the log was cut into batches."""

    #: Of the observation in its stream, from 1.
    number: int
    gap_seconds: float
    calibration: str | None
    before: str | None
    #: The number of the observation that the calibration came with; None before any recalibration.
    began: int | None
    runs: list[str]


class Offer(NamedTuple):
    """An observation of a stream, where it is from and when it came."""

    key: str
    observation: Observation
    moment: Moment
    source: tuple[str, int]


class Found(NamedTuple):
    """A change that a watch found, and in what it was offered. River's detectors give no `change`."""

    offer: Offer
    watch: Watch
    value: float
    change: Change | None
    baseline: Baseline | None


class _Snapshot(Struct, array_like=True):
    """A watch's state.

    `last` is when each stream was last heard of, `gaps` how long after the time before, `alarmed` when those that are
    out alarmed.
    """

    identity: str
    keys: list[str]
    last: list[float]
    gaps: list[float]
    alarmed: dict[str, float]
    state: list[bytes]


def identity(signal: str, watch: Watch) -> str:
    """What a watch's state may be restored into: the same signal, detector, parameters and learning."""
    parameters = sorted(watch.parameters.items())
    return f"{signal}/{watch.detector}/{parameters}/{watch.learn}/{watch.transform}"


def reading(signal: str, observation: Observation) -> tuple[float, ...] | None:
    """A signal's value in an observation; of a count, (count, of). None where it has none."""
    if signal == "error_rate":
        if observation.errors is None or observation.shots is None:
            return None
        return float(observation.errors), float(observation.shots)
    value: float | None = getattr(observation, signal)
    return None if value is None else (value,)


def as_one(values: tuple[float, ...]) -> float:
    """A reading as one number: the value, or count / of; NaN of nothing."""
    if len(values) == 1:
        return values[0]
    count, of = values
    return count / of if of else nan


class Modelled:
    """A watch with a model: one bank for all streams.

    Parameters
    ----------
    signal, watch
        What is watched, and how.
    catalog
        Baselines that are given.
    alerts_per_second
        The rate of false alerts that all streams of this watch together may have.
    """

    def __init__(self, signal: str, watch: Watch, catalog: Catalog, alerts_per_second: float) -> None:
        self.signal = signal
        self.watch = watch
        self._catalog = catalog
        self._rate = alerts_per_second
        self.bank = Bank(MODELS[watch.detector](**watch.parameters), learn=watch.learn)
        self._rows: dict[str, int] = {}
        self._last: list[float] = []
        self._gaps: list[float] = []
        self._alarmed: dict[str, float] = {}
        self._waiting: list[tuple[int, tuple[float, ...], float, Offer]] = []

    def offer(self, offer: Offer, values: tuple[float, ...]) -> None:
        """Put an observation into the batch that `flush` takes in."""
        key, at = offer.key, offer.observation.at
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self.bank.add(self._catalog.baselines.get((key, self.signal)))
            self._last.append(at)
            self._gaps.append(0.0)
        # The time between the two before this one: a long job takes long to come, so its own gap knows its value.
        silence, since = self._gaps[row], at - self._last[row]
        if since > 0:
            self._last[row] = at
        self._gaps[row] = min(max(since, 0.0), _MAX_SILENCE_SECONDS)
        self._waiting.append((row, values, self._rate / len(self._rows) * silence, offer))

    def flush(self, now: float) -> tuple[list[Found], int]:
        """Take in what was offered; what was found, and how many values could not be judged.

        Parameters
        ----------
        now
            Seconds watched, remembered with an alarm.
        """
        if not self._waiting:
            return [], 0
        values = np.array([self._shaped(values) for _, values, *_ in self._waiting], dtype=np.float64)
        taken = np.flatnonzero(self.bank.model.accepts(values))
        kept = [self._waiting[place] for place in taken.tolist()]
        refused = len(self._waiting) - len(kept)
        self._waiting = []
        if not kept:
            return [], refused
        rows = np.array([row for row, *_ in kept], dtype=np.intp)
        inflow = np.array([allowance for _, _, allowance, _ in kept])
        changes = self.bank.update(rows, values[taken], inflow)
        found = []
        for change in changes:
            _, seen, _, offer = kept[change.place]
            if change.kind == "alarm":
                self._alarmed[offer.key] = now
            else:
                self._alarmed.pop(offer.key, None)
            found.append(Found(offer, self.watch, as_one(seen), change, self.bank.baseline(change.row)))
        return found, refused

    def _shaped(self, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(values) > self.bank.model.columns:  # a count offered to a model of proportions
            values = (as_one(values),)
        if self.watch.transform == "log":
            # Waiting and running times are skewed, and change by factors.
            return tuple(log(value) if value > 0 else nan for value in values)
        return values

    def tick(self, now: float, cool_down_seconds: float) -> None:
        """Arm again what has been out for the cool-down: a change that stays is then said once more."""
        for key, at in list(self._alarmed.items()):
            if now - at >= cool_down_seconds:
                del self._alarmed[key]
                self.bank.rearm(self._rows[key])

    def rebaseline(self, key: str) -> bool:
        """Let a stream learn its baseline anew; whether there is such a stream."""
        row = self._rows.get(key)
        if row is None:
            return False
        self._alarmed.pop(key, None)
        self.bank.rebaseline(row)
        return True

    def snapshot(self) -> _Snapshot:
        """The whole state."""
        name = identity(self.signal, self.watch)
        return _Snapshot(
            name, list(self._rows), list(self._last), list(self._gaps), dict(self._alarmed), [self.bank.snapshot()]
        )

    def restore(self, state: _Snapshot) -> None:
        """Continue from a state.

        Raises
        ------
        ValueError
            If it is not of this watch.
        """
        self.bank.restore(state.state[0])
        self._rows = {key: row for row, key in enumerate(state.keys)}
        self._last, self._gaps, self._alarmed = list(state.last), list(state.gaps), dict(state.alarmed)


class Unpromised:
    """A watch with one of River's detectors: an object a stream."""

    def __init__(self, signal: str, watch: Watch) -> None:
        self.signal = signal
        self.watch = watch
        self._detectors: dict[str, Detector] = {}
        self._found: list[Found] = []
        self._refused = 0

    def offer(self, offer: Offer, values: tuple[float, ...]) -> None:
        """Take in an observation."""
        value = as_one(values)
        if not isfinite(value):
            self._refused += 1
            return
        detector = self._detectors.get(offer.key)
        if detector is None:
            detector = self._detectors[offer.key] = REGISTRY[self.watch.detector](**self.watch.parameters)
        detector.update(value)
        if detector.drift_detected:
            self._found.append(Found(offer, self.watch, value, None, None))

    def flush(self, now: float) -> tuple[list[Found], int]:
        """What was found since the last time."""
        found, refused = self._found, self._refused
        self._found, self._refused = [], 0
        return found, refused

    def tick(self, now: float, cool_down_seconds: float) -> None:
        """River's detectors start anew by themselves."""

    def rebaseline(self, key: str) -> bool:
        """Begin anew with a stream."""
        return self._detectors.pop(key, None) is not None

    def snapshot(self) -> _Snapshot:
        """The whole state."""
        states = [detector.snapshot() for detector in self._detectors.values()]
        return _Snapshot(identity(self.signal, self.watch), list(self._detectors), [], [], {}, states)

    def restore(self, state: _Snapshot) -> None:
        """Continue from a state."""
        for key, snapshot in zip(state.keys, state.state, strict=True):
            detector = self._detectors[key] = REGISTRY[self.watch.detector](**self.watch.parameters)
            detector.restore(snapshot)


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

    def _build(self) -> list[Modelled | Unpromised]:
        watched = [(signal, watch) for signal, watches in self._catalog.watches.items() for watch in watches]
        promised = [(signal, watch) for signal, watch in watched if watch.detector in MODELS]
        total = sum(watch.share for _, watch in promised)
        fleet = self._catalog.promise.false_alerts_per_week / _WEEK_SECONDS / self._partitions
        return [
            *(Modelled(signal, watch, self._catalog, fleet * watch.share / total) for signal, watch in promised),
            *(Unpromised(signal, watch) for signal, watch in watched if watch.detector not in MODELS),
        ]

    def offer(self, offer: Offer) -> None:
        """Offer an observation to every watch."""
        for watch in self.watches:
            values = reading(watch.signal, offer.observation)
            if values is not None and isfinite(values[0]):
                watch.offer(offer, values)

    def flush(self, now: float) -> tuple[list[tuple[str, Found]], dict[str, int]]:
        """Take everything in: what was found, by signal, and how many values of each signal could not be judged."""
        found: list[tuple[str, Found]] = []
        refused: dict[str, int] = {}
        for watch in self.watches:
            more, count = watch.flush(now)
            found += [(watch.signal, one) for one in more]
            if count:
                refused[watch.signal] = refused.get(watch.signal, 0) + count
        return found, refused

    def tick(self, now: float) -> None:
        """Time has passed."""
        for watch in self.watches:
            watch.tick(now, self._catalog.promise.cool_down_seconds)

    def rebaseline(self, key: str, signal: str) -> int:
        """Let a signal of a stream begin anew; how many watches had it."""
        return sum(watch.rebaseline(key) for watch in self.watches if watch.signal == signal)

    def snapshot(self) -> list[bytes]:
        """The whole state."""
        return [msgspec.msgpack.encode(watch.snapshot()) for watch in self.watches]

    def restore(self, states: Sequence[bytes]) -> None:
        """Continue from a state; a watch that was added or changed since starts anew."""
        found: dict[str, Any] = {}
        for state in states:
            one = msgspec.msgpack.decode(state, type=_Snapshot)
            found[one.identity] = one
        self.watches = self._build()
        for watch in self.watches:
            known = found.get(identity(watch.signal, watch.watch))
            if known is not None:
                watch.restore(known)
