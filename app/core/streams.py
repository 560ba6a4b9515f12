"""The stream stage: what one partition of `samples` says about its streams, its spending and its producers.

A stream is (workload, backend, signal). Samples carry the position of the record they come from; per source partition
the highest position taken in is kept and everything at or below it is skipped, so repeats change nothing, however the
source was cut into batches. As in the run stage, time comes from heartbeats in the log.
"""

from math import isfinite, sqrt
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import Struct, field
from scipy import stats

from app.conventions import DRIFT_ALERT, PROVENANCE_GAP_ALERT, SAMPLES
from app.core.catalog import Catalog, Watch
from app.core.clock import Clock
from app.core.decode import Reason
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert, Gap, Observation, Outcomes, Pack, Spending
from app.core.output import Output
from app.core.records import Batch, control
from app.core.runs import read_state
from app.core.sequences import Producer
from detectors import REGISTRY, Detector

VERSION: Final = 2
#: The signals an observation carries, by the name of its field.
SIGNALS: Final = ("fidelity", "queue_seconds", "execution_seconds")
_HOUR: Final = 3600.0
_HOURS_KEPT: Final = 72
#: Producers whose sequence numbers are watched, at most; events of further ones are counted as unwatched.
_PRODUCERS: Final = 10_000
#: A producer not heard of for a day is forgotten.
_SILENT_SECONDS: Final = 86_400.0
_CONFIDENCE: Final = 0.95


class Moments(Struct, array_like=True):
    """Count, mean and sum of squared deviations of what was added (Welford 1962)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take in one value."""
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self.squares += step * (value - self.mean)

    @property
    def variance(self) -> float:
        """The sample variance; 0 below two values."""
        return self.squares / (self.n - 1) if self.n > 1 else 0.0

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean; None below two values."""
        return sqrt(self.variance / self.n) if self.n > 1 else None


class VarianceRatio(Struct, frozen=True, array_like=True):
    """Variance of the last full window over the baseline's, with its 95 % interval for normal values."""

    ratio: float
    low: float
    high: float


class Stream(Struct, array_like=True):
    """What is kept of one (workload, backend): figures of its fidelity, and the detectors of every watched signal."""

    workload: str
    backend: str
    total: Moments = field(default_factory=Moments)
    baseline: Moments = field(default_factory=Moments)
    window: Moments = field(default_factory=Moments)
    ratio: VarianceRatio | None = None
    #: signal -> snapshots of its detectors, in the order of its watches; filled when a snapshot is taken.
    detectors: dict[str, list[bytes]] = field(default_factory=dict)


class Hour(Struct, array_like=True):
    """Money spent in one hour of the event clock."""

    microdollars: int = 0


class _State(Struct):
    version: int
    clock: Clock
    applied: list[tuple[str, int, int]]
    streams: dict[str, Stream]
    producers: dict[str, Producer]
    hours: list[tuple[str, str, int, int]]
    settled: list[tuple[str, str, int, int]]
    counters: list[tuple[tuple[str, ...], int]]


_PACK: Final = msgspec.msgpack.Decoder(Pack)


def variance_ratio(window: Moments, baseline: Moments) -> VarianceRatio | None:
    """The ratio of two variances with its 95 % interval from the F distribution; None without a baseline variance."""
    if not baseline.variance:
        return None
    ratio = window.variance / baseline.variance
    tail = (1 - _CONFIDENCE) / 2
    degrees = window.n - 1, baseline.n - 1
    return VarianceRatio(
        ratio,
        ratio / float(stats.f.ppf(1 - tail, *degrees)),
        ratio / float(stats.f.ppf(tail, *degrees)),
    )


class StreamStage:
    """The streams of one partition.

    Parameters
    ----------
    catalog
        What the deployment knows: watches, variance windows, budgets.
    partitions
        How many partitions `jobs` has.
    """

    topics: Final = (SAMPLES,)

    def __init__(self, catalog: Catalog, partitions: int) -> None:
        self._catalog = catalog
        self._partitions = partitions
        self._output = Output(partitions)
        self.clock = Clock()
        self.streams: dict[str, Stream] = {}
        self.producers: dict[str, Producer] = {}
        #: (cost center, runtime, hour since the epoch) -> spending, while the hour may still change.
        self.hours: dict[tuple[str, str, int], Hour] = {}
        #: (cost center, runtime) -> (hours, hours within budget) of what can change no more.
        self.settled: dict[tuple[str, str], tuple[int, int]] = {}
        self.counters = self._output.counters
        self._newest_hour = 0
        self._applied: dict[tuple[str, int], int] = {}
        self._detectors: dict[str, list[tuple[str, Watch, Detector]]] = {}
        self._source = ("", 0)

    # -- the way of a batch ------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> Outcomes:
        """Take in a batch of `samples` and say what follows from it.

        Parameters
        ----------
        batch
            Consecutive records of this stage's partition of `samples`.
        """
        self._output.begin(batch)
        for record in batch.records:
            said = control(record) if record.headers else None
            if said is not None:
                if said.heartbeat and self.clock.advance(record.timestamp / 1000):
                    self.tick(self.clock.watched)
                continue
            try:
                pack = _PACK.decode(record.value or b"")
                if any(key.count("\x1f") != 1 for key in pack.observations):
                    raise msgspec.ValidationError("a key of observations is no stream")
            except msgspec.MsgspecError as error:
                self._output.reject(record, Reason.MALFORMED_JSON, str(error))
                continue
            self._take(pack)
        return self._output.outcomes

    def _take(self, pack: Pack) -> None:
        self._source = source = pack.topic, pack.partition
        applied = self._applied.get(source, -1)
        if pack.next <= applied + 1:
            return
        for key, observations in pack.observations.items():
            fresh = [observation for observation in observations if observation.offset > applied]
            if fresh:
                self._observe(key, fresh)
        for spending in pack.spending:
            if spending.offset > applied:
                self._spend(spending)
        for producer, numbers in pack.sequences.items():
            known = self.producers.get(producer)
            if known is None:
                if len(self.producers) >= _PRODUCERS:
                    self.counters["unwatched",] += len(numbers) // 8
                    continue
                known = self.producers[producer] = Producer(lost=[], fresh=[])
            known.add(numbers)
        self._applied[source] = pack.next - 1

    def _observe(self, key: str, observations: list[Observation]) -> None:
        stream = self.streams.get(key)
        if stream is None:
            workload, backend = key.split("\x1f")
            stream = self.streams[key] = Stream(workload, backend)
            self._detectors[key] = self._watch()
        values = {signal: self._finite(signal, observations) for signal in SIGNALS}
        for value, _ in values["fidelity"]:
            self._add_fidelity(stream, value)
        for signal, watch, detector in self._detectors[key]:
            for value, observation in values[signal]:
                detector.update(value)
                if detector.drift_detected:
                    self._drift(stream, signal, watch, observation, value)

    def _finite(self, signal: str, observations: list[Observation]) -> list[tuple[float, Observation]]:
        """The values of a signal that a detector can take, and their observations."""
        read = attrgetter(signal)
        given = [(value, observation) for observation in observations if (value := read(observation)) is not None]
        finite = [pair for pair in given if isfinite(pair[0])]
        if len(finite) < len(given):
            self.counters["non_finite", signal] += len(given) - len(finite)
        if finite:
            self.counters["observed", signal] += len(finite)
            if signal in self._catalog.watches:
                self.counters["valid", "M10", signal] += len(finite)
        return finite

    def _watch(self) -> list[tuple[str, Watch, Detector]]:
        return [
            (signal, watch, REGISTRY[watch.detector](**watch.parameters))
            for signal, watches in self._catalog.watches.items()
            for watch in watches
        ]

    # -- fidelity variance (M4) --------------------------------------------------------------------------------------

    def _add_fidelity(self, stream: Stream, value: float) -> None:
        stream.total.add(value)
        config = self._catalog.variance
        if stream.baseline.n < config.baseline:
            stream.baseline.add(value)
            return
        stream.window.add(value)
        if stream.window.n < config.size:
            return
        stream.ratio = variance_ratio(stream.window, stream.baseline)
        if stream.ratio is not None:
            good = stream.ratio.ratio <= config.limit
            self.counters.judge("M4", good, stream.workload, stream.backend)
        stream.window = Moments()

    # -- drift (M10) -------------------------------------------------------------------------------------------------

    def _drift(self, stream: Stream, signal: str, watch: Watch, observation: Observation, value: float) -> None:
        self.counters["drift", signal] += 1
        self.counters["bad", "M10", signal] += 1
        labels = {
            "workload": stream.workload,
            "backend": stream.backend,
            "signal": signal,
            "detector": watch.detector,
        }
        self._output.outcomes.alerts.append(
            Alert(
                alert_id=outcome_id("alert", DRIFT_ALERT, *labels.values(), *self._source, observation.offset),
                fingerprint=outcome_id("condition", DRIFT_ALERT, *labels.values()),
                name=DRIFT_ALERT,
                severity="ticket",
                status="firing",
                at=instant(observation.at),
                labels=labels,
                summary=f"{signal} of {stream.workload} on {stream.backend} has drifted ({watch.detector})",
                figures={"value": value, "mean": stream.total.mean, "n": float(stream.total.n)},
                run_ids=(observation.run_id,),
            )
        )

    # -- spending (M9) -----------------------------------------------------------------------------------------------

    def _spend(self, spending: Spending) -> None:
        key = spending.cost_center, spending.runtime, int(spending.at // _HOUR)
        if key[2] <= self._newest_hour - _HOURS_KEPT:
            self.counters["late_spend",] += 1
            return
        self.hours.setdefault(key, Hour()).microdollars += spending.microdollars
        if key[2] > self._newest_hour:
            self._newest_hour = key[2]
            self._settle_hours()

    def _settle_hours(self) -> None:
        """Fold hours older than any correction is taken for into two integers a cost center."""
        for key in [key for key in self.hours if key[2] <= self._newest_hour - _HOURS_KEPT]:
            center, runtime, _ = key
            hours, good = self.settled.get((center, runtime), (0, 0))
            self.settled[center, runtime] = hours + 1, good + self._within_budget(center, self.hours.pop(key))

    def _within_budget(self, center: str, hour: Hour) -> bool:
        return hour.microdollars <= self._catalog.budgets.get(center, 0.0) * 1e6

    def budget_hours(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(cost center, runtime) -> (hours with spending, hours within the budget): indicator M9.

        Computed, not counted: a late or corrected cost event may change the verdict on an hour.
        """
        totals = dict(self.settled)
        for (center, runtime, _), hour in self.hours.items():
            hours, good = totals.get((center, runtime), (0, 0))
            totals[center, runtime] = hours + 1, good + self._within_budget(center, hour)
        return totals

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Declare lost what is missing for the grace at `now` (seconds watched)."""
        for name, producer in list(self.producers.items()):
            self.counters["recovered",] += producer.merge(now)
            if now - producer.heard_at > _SILENT_SECONDS:
                del self.producers[name]  # it will not come back under this name, and the next one needs the place
                continue
            ranges = producer.tick(now, self._catalog.sequence_grace_seconds)
            if ranges:
                self._gap(name, ranges)

    def _gap(self, producer: str, ranges: list[tuple[int, int]]) -> None:
        lost = sum(last - first + 1 for first, last in ranges)
        self.counters["lost",] += lost
        self._output.outcomes.alerts.append(
            Alert(
                alert_id=outcome_id("alert", PROVENANCE_GAP_ALERT, producer, ranges[0][0]),
                fingerprint=outcome_id("condition", PROVENANCE_GAP_ALERT, producer),
                name=PROVENANCE_GAP_ALERT,
                severity="ticket",
                status="firing",
                at=instant(self.clock.at),
                labels={"producer": producer},
                summary=f"{lost} events of {producer} never arrived (first missing: {ranges[0][0]})",
                figures={"lost": float(lost), "ranges": float(len(ranges))},
            )
        )
        # Which runs they were of nobody knows; every partition is told, so that a run that lacks something says why.
        self._output.outcomes.gaps.extend(Gap(partition, producer) for partition in range(self._partitions))

    # -- durability --------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The whole state as versioned msgpack."""
        for key, watched in self._detectors.items():
            detectors: dict[str, list[bytes]] = {}
            for signal, _, detector in watched:
                detectors.setdefault(signal, []).append(detector.snapshot())
            self.streams[key].detectors = detectors
        return msgspec.msgpack.encode(
            _State(
                VERSION,
                self.clock,
                [(topic, partition, offset) for (topic, partition), offset in self._applied.items()],
                self.streams,
                self.producers,
                [(*key, hour.microdollars) for key, hour in self.hours.items()],
                [(*key, *figures) for key, figures in self.settled.items()],
                list(self.counters.items()),
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot. A watch that was added or changed since starts anew.

        Raises
        ------
        ValueError
            If the snapshot is of a version this code does not read, or is damaged.
        """
        state = read_state(snapshot, _State, VERSION)
        self.clock, self.streams, self.producers = state.clock, state.streams, state.producers
        self._applied = {(topic, partition): offset for topic, partition, offset in state.applied}
        self.hours = {(center, runtime, hour): Hour(amount) for center, runtime, hour, amount in state.hours}
        self._newest_hour = max((hour for *_, hour, _ in state.hours), default=0)
        self.settled = {(center, runtime): (hours, good) for center, runtime, hours, good in state.settled}
        self.counters.clear()
        self.counters.update(state.counters)
        self._detectors = {key: self._restored(stream) for key, stream in self.streams.items()}

    def _restored(self, stream: Stream) -> list[tuple[str, Watch, Detector]]:
        remaining: dict[str, list[bytes]] = {signal: list(states) for signal, states in stream.detectors.items()}
        watched: list[tuple[str, Watch, Detector]] = []
        for signal, watch, detector in self._watch():
            states: list[Any] = remaining.get(signal, [])
            if states:
                try:
                    detector.restore(states.pop(0))
                except ValueError:
                    watched.append((signal, watch, REGISTRY[watch.detector](**watch.parameters)))
                    continue
            watched.append((signal, watch, detector))
        return watched
