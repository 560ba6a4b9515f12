"""The stream stage: what one partition of `samples` says about its streams, its spending and its producers.

A stream is (workload, backend, signal). Samples carry the position of the record they come from; per source partition
the highest position taken in is kept and everything at or below it is skipped, so repeats change nothing, however the
source was cut into batches. As in the run stage, time comes from heartbeats in the log.
"""

import sys
from bisect import bisect_left
from collections.abc import Iterable
from math import sqrt
from typing import Final, TypeVar

import msgspec
from msgspec import Struct, field
from scipy.special import fdtri

from app.conventions import (
    BASELINE_ALERT,
    CANARY_ALERT,
    CONFLICT_ALERT,
    DRIFT_ALERTS,
    FALLBACK_CLASSICAL,
    FREEZE_OFFLOAD,
    GRAVE_ALERTS,
    PROVENANCE_GAP_ALERT,
    REPLAY_ALERT,
    ROLLBACK_CANARY,
    SAMPLES,
    UNAUTHORIZED_ALERT,
    VIOLATION_ALERT,
)
from app.core.bitstrings import Bitstrings
from app.core.budget import HOUR_SECONDS, Spent
from app.core.canary import SIGNALS as COMPARED
from app.core.canary import Canary, Release, compared, rollback, verdict
from app.core.catalog import OTHER, RUNTIMES, UNKNOWN, Catalog
from app.core.clock import Clock
from app.core.conditions import Conditions
from app.core.decode import Reason, Rejection
from app.core.drift import Drift, Ended, Firing, Found, Offer, Watched, readings
from app.core.drift_alert import drift_alert, ended, grave
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.orders import fallback, stream_target
from app.core.outcomes import (
    Alert,
    Broken,
    Budget,
    Conflict,
    Gap,
    Lifted,
    Observation,
    Outcomes,
    Pack,
    Spending,
    Unauthorized,
)
from app.core.output import Output
from app.core.records import Batch, Control, Record, control
from app.core.reproducibility import Counted, Waiting, compare
from app.core.results import stream_key
from app.core.runs import read_state
from app.core.seal import UNSEALED, Seal
from app.core.sequences import MOST_JUMP, Producer
from app.core.spend import Burn, budget_ends_at
from app.core.unauthorized import disabling, lifted, say
from app.unreadable import UNREADABLE

VERSION: Final = 11
#: Why a record of `samples` may be refused: it is of our own making, so there is little that can be wrong with it.
REFUSED: Final = (Reason.MALFORMED_JSON, Reason.UNKNOWN_TYPE, Reason.INVALID_FIELD, Reason.UNSEALED_CONTROL)
#: The signals an observation carries, by the name of its field.
SIGNALS: Final = tuple(DRIFT_ALERTS)
_HOURS_KEPT: Final = 72
_RUNTIMES: Final = (*RUNTIMES, UNKNOWN)
#: Producers whose sequence numbers are watched, at most; events of further ones are counted as unwatched.
_PRODUCERS: Final = 10_000
#: A producer not heard of for a day is forgotten.
_SILENT_SECONDS: Final = 86_400.0
_CONFIDENCE: Final = 0.95
#: Violations known again, at most: those that a run stage can say again after a crash, so that each counts once.
_MARKS_KEPT: Final = 65_536
#: Runs that an alert names.
_RUNS: Final = 8
#: How far ahead of the log's clock an observation may be dated.
_AHEAD_SECONDS: Final = 60.0


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
    """What is kept of one (workload, backend): figures of its fidelity, and its place in time."""

    workload: str
    backend: str
    total: Moments = field(default_factory=Moments)
    baseline: Moments = field(default_factory=Moments)
    window: Moments = field(default_factory=Moments)
    ratio: VarianceRatio | None = None
    #: The last runs; replaced, never changed, as alerts to come refer to it.
    runs: list[str] = field(default_factory=list)
    bitstrings: Bitstrings = field(default_factory=Bitstrings)
    canaries: dict[str, Canary] = field(default_factory=dict)
    calibration_id: str | None = None


class Hour(Struct, array_like=True):
    """Money spent in one hour of the event clock."""

    microdollars: int = 0


class _State(Struct):
    version: int
    clock: Clock
    applied: list[tuple[str, int, int]]
    streams: dict[str, Stream]
    producers: dict[str, Producer]
    budgets: dict[str, float]
    hours: list[tuple[str, str, int, int]]
    newest_hour: int
    settled: list[tuple[str, str, int, int]]
    drift: list[bytes]
    routings: Conditions
    gaps: Conditions
    violations: Conditions
    divergences: Conditions
    conflicts: Conditions
    waiting: Waiting
    marks: list[bytes]
    spent: Spent
    burn: Burn
    counters: list[tuple[tuple[str, ...], int]]
    sums: dict[str, float]


class Rebaseline(Struct, frozen=True, kw_only=True):
    """The act of holding a signal of a stream, or what a cost center spends, against a new baseline.

    It is learned from what comes next.
    """

    by: str
    reason: str
    workload: str = ""
    backend: str = ""
    signal: str = ""
    #: Instead of the three.
    cost_center: str = ""


_REBASELINE: Final = msgspec.json.Decoder(Rebaseline)
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
        ratio / float(fdtri(*degrees, 1 - tail)),
        ratio / float(fdtri(*degrees, tail)),
    )


#: Signal -> the histogram of it: its metric stem, what it says and the upper bounds of its buckets.
HISTOGRAMS: Final[dict[str, tuple[str, str, tuple[float, ...]]]] = {
    "fidelity": (
        "fidelity_ratio",
        "fidelity of results",
        (0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0),
    ),
    "explanation_score": (
        "explanation_score_ratio",
        "score of explanations",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    ),
    "queue_seconds": (
        "queue_wait_seconds",
        "time that runs waited in the queue of a device",
        (1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 10_800.0),
    ),
}
#: Signal -> between which values a reading of it can be: any finite number, and of a fidelity not further outside
#: [0, 1] than an estimate may be.
_FINITE: Final = (-sys.float_info.max, sys.float_info.max)
_RANGES: Final = {**dict.fromkeys(SIGNALS, _FINITE), "fidelity": (-0.25, 1.25)}
#: Keys of the counters that grow with every observation, made once.
_OBSERVED: Final = {signal: ("observed", signal) for signal in SIGNALS}
_VALID: Final = {signal: ("valid", "M10", signal) for signal in SIGNALS}
_BUCKETS: Final = {
    signal: tuple(("bucket", signal, str(place)) for place in range(len(bounds) + 1))
    for signal, (_, _, bounds) in HISTOGRAMS.items()
}


class StreamStage:
    """The streams of one partition.

    Parameters
    ----------
    catalog
        What the deployment knows: watches, variance windows.
    partitions
        How many partitions `jobs` has.
    seal
        What control records have to be sealed with.
    """

    topics: Final = (SAMPLES,)

    def __init__(self, catalog: Catalog, partitions: int, *, seal: Seal = UNSEALED) -> None:
        self._catalog = catalog
        self._seal = seal
        self.partitions = partitions
        self._output = Output(partitions)
        self.clock = Clock()
        self.streams: dict[str, Stream] = {}
        self.producers: dict[str, Producer] = {}
        #: Cost center -> dollars an hour, as the policy in force where its runs are judged has it.
        self.budgets: dict[str, float] = {}
        #: (cost center, runtime, hour since the epoch) -> spending, while the hour may still change.
        self.hours: dict[tuple[str, str, int], Hour] = {}
        #: (cost center, runtime) -> (hours, hours within budget) of what can change no more.
        self.settled: dict[tuple[str, str], tuple[int, int]] = {}
        self.counters = self._output.counters
        #: Signal -> the sum of what was observed of it, of those with a histogram.
        self.sums: dict[str, float] = {}
        self._newest_hour = 0
        self._applied: dict[tuple[str, int], int] = {}
        self.drift = Drift(catalog, partitions)
        self.routings = Conditions(UNAUTHORIZED_ALERT)
        self.gaps = Conditions(PROVENANCE_GAP_ALERT, "lost")
        self.violations = Conditions(VIOLATION_ALERT)
        self.divergences = Conditions(REPLAY_ALERT)
        self.conflicts = Conditions(CONFLICT_ALERT)
        self._waiting = Waiting()
        #: The last violations taken in: a restarted run stage says some of them again.
        self._marks: dict[bytes, None] = {}
        self.spent = Spent()
        self.burn = Burn()
        #: The streams that have canaries.
        self._compared: set[str] = set()
        #: What another configuration ended, to be said with the next batch.
        self._ended: list[Ended] = []
        #: Observations taken in since the last flush, and the canary verdicts among them.
        self._number = 0
        self._verdicts: list[tuple[int, Alert]] = []

    # -- the way of a batch ------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> Outcomes:
        """Take in a batch of `samples` and say what follows from it.

        Parameters
        ----------
        batch
            Consecutive records of this stage's partition of `samples`.
        """
        self._output.begin(batch)
        self._reconfigured()
        for record in batch.records:
            at = self.clock.at
            said = control(record, SAMPLES, batch.partition, self._seal, at) if record.headers else None
            if said is not None:
                self._flush()  # before time moves, so that it does not matter how the log is cut into batches
                self._controlled(record, said)
                continue
            try:
                pack = _PACK.decode(record.value or b"")
                _check(pack)
            except UNREADABLE as error:
                self._output.reject(record, Reason.MALFORMED_JSON, str(error))
                continue
            self._take(pack)
        self._flush()
        for order in self._output.outcomes.directives:
            self.counters["directive", order.directive, "lifted" if isinstance(order, Lifted) else "issued"] += 1
        return self._output.outcomes

    def _controlled(self, record: Record, said: Control | Rejection) -> None:
        """A control record: a heartbeat, or the wish for a new baseline."""
        if isinstance(said, Rejection):
            self._output.reject(record, said.reason, said.detail)
        elif said.heartbeat is not None:
            if self.clock.advance(said.heartbeat):
                self.tick(self.clock.watched)
        elif said.rebaseline is not None:
            self._rebaseline(record, said.rebaseline)
        else:
            self._output.reject(record, Reason.UNKNOWN_TYPE, "unexpected control record for this topic")

    def set_aside(self, batch: Batch, reason: str, detail: str) -> Outcomes:
        """Take note of records that are not to be taken in: they become dead letters.

        Parameters
        ----------
        batch
            As for `apply`.
        reason
            The value of a `Reason`.
        detail
            For the person who will look.
        """
        return self._output.set_aside(batch, reason, detail)

    def _take(self, pack: Pack) -> None:
        source = pack.topic, pack.partition
        for broken in pack.broken:
            self._broken(broken)
        applied = self._applied.get(source, -1)
        if pack.next <= applied + 1:
            return
        for key, observations in pack.observations.items():
            fresh = _after(applied, observations)
            if fresh:
                self._observe(key, source, fresh)
        for spending in _after(applied, pack.spending):
            self._spend(spending)
        for budget in _after(applied, pack.budgets):
            self._budget(budget.cost_center, budget.usd)
            self._freeze(budget.cost_center, int(self.clock.at // HOUR_SECONDS))
        for routing in _after(applied, pack.unauthorized):
            self._unauthorized(routing, source)
        for counted in _after(applied, pack.counted):
            self._count(counted)
        for conflict in _after(applied, pack.conflicts):
            self._conflict(conflict, source)
        self._follow(pack)
        self._applied[source] = pack.next - 1

    def _follow(self, pack: Pack) -> None:
        """Take in the sequence numbers of producers."""
        for producer, numbers in pack.sequences.items():
            known = self.producers.get(producer)
            if known is None:
                if len(self.producers) >= _PRODUCERS:
                    self.counters["unwatched",] += len(numbers) // 8
                    continue
                known = self.producers[producer] = Producer(lost=[], fresh=[])
            known.add(numbers)

    def _unauthorized(self, routing: Unauthorized, source: tuple[str, int]) -> None:
        said = say(self.routings, routing, source, self._heard_at(routing.at), self.clock.watched)
        if said is not None:
            alert, order = said
            self._output.outcomes.alerts.append(alert)
            self._output.outcomes.directives += [order] if order is not None else []

    def _heard_at(self, at: float) -> float:
        """When something is heard of, seconds since the epoch; before the first beat `at`, as its producer says."""
        return self.clock.at or at

    def _count(self, counted: Counted) -> None:
        """Compare a replay with its original once both are there (M2)."""
        rules = self._catalog.alerting.replays
        pair = self._waiting.take(counted, rules.kept)
        if pair is None:
            return
        original, replay = pair
        known = self._catalog.workloads.get(counted.workload)
        deterministic = known is not None and known.deterministic
        found = compare(original.outcomes, replay.outcomes, rules, deterministic=deterministic)
        self.counters["replay", found.answer] += 1
        if found.answer == "underpowered":
            return
        self.counters.judge("M2", found.answer == "matched", counted.workload)
        if found.answer == "matched":
            return
        alert = self.divergences.take(
            self.divergences.place(counted.workload),
            {"workload": counted.workload},
            f"replays of {counted.workload} do not match the runs that they repeat",
            severity="ticket",
            position=(original.run_id, replay.run_id),
            at=self._heard_at(counted.at),
            watched=self.clock.watched,
            run_ids=(original.run_id, replay.run_id),
            notes={
                "last": f"total variation distance {found.distance:.4f} where chance makes {found.floor:.4f}, "
                f"p = {found.p_value:.2g}",
            },
        )
        self._output.outcomes.alerts += [alert] if alert is not None else []

    def _conflict(self, conflict: Conflict, source: tuple[str, int]) -> None:
        """An id that stands for two events: one alert a producer, however many there are."""
        name = self.conflicts.place(conflict.producer)
        alert = self.conflicts.take(
            name,
            {"producer": name},
            f"{name} sends other events under ids that it has used (last: {conflict.event_id})",
            severity="ticket",
            position=(*source, conflict.offset),
            at=self._heard_at(conflict.at),
            watched=self.clock.watched,
            run_ids=(conflict.run_id,),
        )
        self._output.outcomes.alerts += [alert] if alert is not None else []

    def _broken(self, broken: Broken) -> None:
        """Count a broken rule, and raise one alert a rule, however many runs broke it."""
        if broken.id in self._marks:
            return
        self._marks[broken.id] = None
        while len(self._marks) > _MARKS_KEPT:
            del self._marks[next(iter(self._marks))]
        self.counters["violation", broken.rule, broken.severity] += 1
        rule = self.violations.place(broken.rule)
        alert = self.violations.take(
            rule,
            {"rule": rule, "rule_severity": broken.severity, "owner": broken.owner},
            f"runs break the rule {broken.rule}",
            severity="ticket",
            position=(broken.id.hex(),),
            at=self._heard_at(broken.at),
            watched=self.clock.watched,
            run_ids=(broken.run_id,),
            notes={"reason": broken.reason},
        )
        self._output.outcomes.alerts += [alert] if alert is not None else []

    def _observe(self, key: str, source: tuple[str, int], observations: list[Observation]) -> None:
        stream = self.streams.get(key)
        if stream is None:
            workload, backend = key.split("\x1f")
            stream = self.streams[key] = Stream(workload, backend)
        for observation in observations:
            self._number += 1
            known = self._known(observation)
            if observation.canary is not None or stream.canaries:
                self._compare(stream, source, observation, known)
            if observation.canary is not None:
                continue  # a bad canary is no drift of what is in production
            if "fidelity" in known:
                self._add_fidelity(stream, known["fidelity"][0])
            if observation.calibration_id not in {None, stream.calibration_id}:
                if stream.calibration_id is not None:
                    self.counters["recalibrated", stream.backend] += 1
                stream.calibration_id = observation.calibration_id
            if observation.outcomes is not None:
                stream.bitstrings = stream.bitstrings.take(observation.outcomes)
            if not stream.runs or stream.runs[-1] != observation.run_id:
                stream.runs = [*stream.runs, observation.run_id][-_RUNS:]
            # A clock far ahead must not make the stream deaf until then.
            at = min(observation.at, self.clock.at + _AHEAD_SECONDS) if self.clock.at else observation.at
            self.drift.offer(Offer(self._number, key, source, at, observation, known, stream.runs, stream.bitstrings))

    def _known(self, observation: Observation) -> dict[str, tuple[float, ...]]:
        """The signals that an observation has, counted; what cannot be is refused."""
        found = readings(observation)
        watched = self._catalog.watches if observation.canary is None else ()
        impossible = []
        for signal, values in found.items():
            low, high = _RANGES[signal]
            value = values[0]
            if not low <= value <= high:
                impossible.append(signal)
                continue
            self.counters[_OBSERVED[signal]] += 1
            if signal in _BUCKETS:
                self.counters[_BUCKETS[signal][bisect_left(HISTOGRAMS[signal][2], value)]] += 1
                self.sums[signal] = self.sums.get(signal, 0.0) + value
            if signal in watched:
                self.counters[_VALID[signal]] += 1
        for signal in impossible:
            self.counters["refused", signal] += 1
            del found[signal]
        return found

    def _compare(
        self, stream: Stream, source: tuple[str, int], observation: Observation, known: dict[str, tuple[float, ...]]
    ) -> None:
        """Hold an observation of a canary, or of what a canary is compared with, against the others."""
        for signal in COMPARED:
            value = compared(signal, observation, known)
            if value is None:
                continue
            canary = stream.canaries.setdefault(signal, Canary())
            self._compared.add(stream_key(stream.workload, stream.backend))
            shots, at, watched = observation.shots or 0, self._heard_at(observation.at), self.clock.watched
            for name in canary.take(value, shots, observation.at, observation.canary, watched):
                release = canary.releases[name]
                labels = self._canary_labels(stream, signal, name, release)
                about = release.comparison, labels, source, observation, at
                if release.firing is None or release.firing.name != release.said:
                    self._end_canary(release, labels, at, f"it is {release.said} now")
                    alert = verdict(*about)
                    release.firing = Firing(alert.alert_id, release.said, alert.severity, watched)
                    self._verdicts.append((self._number, alert))
                    self.counters["canary", release.said] += 1
                if release.said == "worse":
                    release.ordered_at = observation.at
                    self._output.outcomes.directives.append(rollback(*about))
            self._forget_canaries(stream, signal, canary)

    def _forget_canaries(self, stream: Stream, signal: str, canary: Canary) -> None:
        for name, release in canary.gone(self.clock.watched):
            labels = self._canary_labels(stream, signal, name, release)
            self._end_canary(release, labels, self.clock.at, "the release is gone")

    @staticmethod
    def _canary_labels(stream: Stream, signal: str, name: str, release: Release) -> dict[str, str]:
        about = {"workload": stream.workload, "backend": stream.backend, "signal": signal}
        return {**about, "release": name, "verdict": release.said}

    def _end_canary(self, release: Release, labels: dict[str, str], at: float, why: str) -> None:
        """Say that a verdict holds no more, if one was said."""
        firing, release.firing = release.firing, None
        if firing is not None:
            before = Firing(firing.alert_id, CANARY_ALERT, firing.severity, firing.at)
            alert = ended(before, {**labels, "verdict": firing.name}, at, why)
            self._verdicts.append((self._number, alert))
            if firing.name == "worse" and not self._worse(labels):
                self._output.outcomes.directives.append(Lifted(ROLLBACK_CANARY, stream_target(labels)))

    def _worse(self, labels: dict[str, str]) -> bool:
        """Whether by another signal of the stream a canary is worse still."""
        canaries = self.streams[stream_key(labels["workload"], labels["backend"])].canaries.values()
        releases = [release for canary in canaries for release in canary.releases.values()]
        return any(release.firing is not None and release.firing.name == "worse" for release in releases)

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

    def _flush(self) -> None:
        """Take in what was offered to the watches, and say what they and the canaries found, as it came."""
        found, refused = self.drift.flush()
        for signal, count in refused.items():
            self.counters["refused", signal] += count
        verdicts, self._verdicts, self._number = self._verdicts, [], 0
        for one in found:
            while verdicts and verdicts[0][0] <= one.seen.offer.number:
                self._output.outcomes.alerts.append(verdicts.pop(0)[1])
            self._say(one)
        self._output.outcomes.alerts += [alert for _, alert in verdicts]

    def _say(self, found: Found) -> None:
        """Say a change that was found, that it has become a collapse, or its end."""
        watch, lane, change = found.watch, found.seen.lane, found.change
        firing, promise = watch.firing.get(lane), self._catalog.promise
        at = self._heard_at(found.seen.offer.at)
        if change is not None and change.kind == "recovery":
            self._end(watch, lane, at, "back at its baseline")
            return
        if firing is not None:
            known = change is None or change.kind != "worse" or not grave(found, promise)
            if known or firing.name in GRAVE_ALERTS.values():
                return  # it was said; a detector without a model does not know that it has
            self._end(watch, lane, at, f"it has become a {GRAVE_ALERTS[watch.signal]}")
        elif change is not None and change.kind == "worse":
            return  # what it was worse than has ended meanwhile
        alert = drift_alert(found, promise, at)
        order = fallback(alert, at, promise.cool_down_seconds)
        self._output.outcomes.directives += [order] if order is not None else []
        watch.firing[lane] = Firing(alert.alert_id, alert.name, alert.severity, self.clock.watched)
        self._output.outcomes.alerts.append(alert)
        self.counters["drift", watch.signal] += 1
        self.counters["bad", "M10", watch.signal] += 1

    def _end(self, watch: Watched, lane: str, at: float, why: str) -> None:
        """Say that the alert of a lane has ended, if there is one."""
        self._said_ended(Ended(watch.labels(lane), watch.firing.pop(lane, None), why), at)

    def _said_ended(self, over: Ended, at: float) -> None:
        if over.firing is not None:
            self._output.outcomes.alerts.append(ended(over.firing, over.labels, at, over.why))
            if over.firing.name in GRAVE_ALERTS.values() and not self._is_grave(over.labels):
                self._output.outcomes.directives.append(Lifted(FALLBACK_CLASSICAL, stream_target(over.labels)))
            self.counters["drift_resolved", over.labels["signal"]] += 1

    def _is_grave(self, labels: dict[str, str]) -> bool:
        """Whether another watch of the stream still orders the classical path."""
        target = stream_target(labels)
        return any(
            firing.name in GRAVE_ALERTS.values() and stream_target(watch.labels(lane)) == target
            for watch in self.drift.watches
            for lane, firing in watch.firing.items()
        )

    def _reconfigured(self) -> None:
        """Say what another configuration ended; that was found when this state was restored."""
        for over in self._ended:
            self._said_ended(over, self.clock.at)
            if over.firing is None or "baseline" in over.why:
                labels = {name: over.labels[name] for name in ("workload", "backend", "signal")}
                about = BASELINE_ALERT, *over.labels.values(), f"{self.clock.at:.3f}"
                by = "policies/detectors.yaml"
                self._changed_baseline(labels, about, self.clock.at, by, over.why, 1, labels["signal"])
        self._ended = []

    def _rebaseline(self, record: Record, value: bytes) -> None:
        """Somebody decided that a signal of a stream is to be held against a new baseline; that is recorded."""
        try:
            asked = _REBASELINE.decode(value)
        except UNREADABLE as error:
            self._output.reject(record, Reason.MALFORMED_JSON, str(error))
            return
        if bool(asked.cost_center) == bool(asked.signal):
            self._output.reject(record, Reason.INVALID_FIELD, "name a signal of a stream, or a cost center")
            return
        at = record.timestamp / 1000
        if asked.cost_center:
            count, labels, of = self._accept(asked.cost_center, at), {"cost_center": asked.cost_center}, "spending"
        else:
            count, of = self._relearn(asked, at), asked.signal
            labels = {"workload": asked.workload, "backend": asked.backend, "signal": asked.signal}
        about = BASELINE_ALERT, *labels.values(), str(record.offset)
        self._changed_baseline(labels, about, at, asked.by, asked.reason, count, of)

    def _relearn(self, asked: Rebaseline, at: float) -> int:
        """Let a signal of a stream learn a new baseline; how many watches of it there are."""
        count = 0
        for watch, lane, firing in self.drift.rebaseline(stream_key(asked.workload, asked.backend), asked.signal):
            count += 1
            self._said_ended(Ended(watch.labels(lane), firing, "a new baseline was asked for"), at)
        return count

    def _accept(self, center: str, at: float) -> int:
        """Take what a cost center spends from now on for its usual; whether anything was known of it."""
        known, over = center in self.burn.centers, self.burn.accept(center, at)
        if over is not None:
            self._output.outcomes.alerts.append(over)
            if center not in self.spent.hours:
                self._output.outcomes.directives.append(Lifted(FREEZE_OFFLOAD, center))
        return int(known)

    def _changed_baseline(
        self, labels: dict[str, str], about: tuple[str, ...], at: float, by: str, reason: str, count: int, of: str
    ) -> None:
        self.counters["rebaselined", of if of in SIGNALS else OTHER] += 1
        self._output.outcomes.alerts.append(
            Alert(
                alert_id=outcome_id("alert", *about),
                fingerprint=outcome_id("condition", *about),
                name=BASELINE_ALERT,
                severity="info",
                status="firing",
                at=instant(at),
                labels=labels,
                summary=f"{by} asked for a new baseline of {of}: {reason}",
                figures={"watches": float(count)},
                notes={"by": by, "reason": reason},
            )
        )

    # -- spending (M9) -----------------------------------------------------------------------------------------------

    def _spend(self, spending: Spending) -> None:
        self._budget(spending.cost_center, spending.budget_usd)
        key = spending.cost_center, spending.runtime, int(spending.at // HOUR_SECONDS)
        if key[2] <= self._newest_hour - _HOURS_KEPT:
            self.counters["late_spend",] += 1
            return
        self.hours.setdefault(key, Hour()).microdollars += spending.microdollars
        self.burn.take(spending, self.clock.at, self._catalog.alerting.spend)
        self._freeze(spending.cost_center, key[2])
        # A bill may be dated ahead, which must not make what comes after it late.
        newest = min(key[2], int(self.clock.at // HOUR_SECONDS))
        if newest > self._newest_hour:
            self._newest_hour = newest
            self._settle_hours()

    def _budget(self, center: str, usd: float | None) -> None:
        if usd is None:
            self.budgets.pop(center, None)
        else:
            self.budgets[center] = usd

    def _freeze(self, center: str, hour: int) -> None:
        """Order that a cost center whose hour is spent sends nothing more to quantum computers in it."""
        budget = self.budgets.get(center)
        if budget is None:
            return
        quiet_seconds = self._catalog.alerting.quiet_seconds
        said = self.spent.take(center, hour, self.spent_usd(center, hour), budget, self.clock.at, quiet_seconds)
        if said is not None:
            alert, order = said
            self._output.outcomes.alerts.append(alert)
            self._output.outcomes.directives += [order] if order is not None else []

    def _is_within(self, center: str, hour: int) -> bool:
        budget = self.budgets.get(center)
        return budget is None or self.spent_usd(center, hour) <= budget

    def spent_usd(self, center: str, hour: int) -> float:
        """What a cost center spent in an hour (since the epoch), in dollars."""
        keys = [(center, runtime, hour) for runtime in _RUNTIMES]
        return sum(self.hours[key].microdollars for key in keys if key in self.hours) / 1e6

    def budget_ends_at(self, center: str) -> float | None:
        """When the budget of this hour will be spent, seconds since the epoch; None if it lasts or there is none."""
        hour, limit = int(self.now // HOUR_SECONDS), self.budgets.get(center, 0.0)
        if self.burn.is_silent(center, self.now, self._catalog.alerting.spend):
            return None
        rate = self.burn.rate(center, self._catalog.alerting.spend, limit).usd_per_hour
        ends = budget_ends_at(self.spent_usd(center, hour), limit, rate, self.now)
        return ends if limit and ends is not None and ends < (hour + 1) * HOUR_SECONDS else None

    def _settle_hours(self) -> None:
        """Fold hours older than any correction is taken for into two integers a cost center and runtime."""
        old = [key for key in self.hours if key[2] <= self._newest_hour - _HOURS_KEPT]
        self._add_hours(self.settled, old)
        for key in old:
            del self.hours[key]

    def _add_hours(self, totals: dict[tuple[str, str], tuple[int, int]], keys: Iterable[tuple[str, str, int]]) -> None:
        """Add hours of cost centers that have a budget to (hours, hours within it)."""
        for center, runtime, hour in keys:
            if center in self.budgets:
                hours, good = totals.get((center, runtime), (0, 0))
                totals[center, runtime] = hours + 1, good + self._is_within(center, hour)

    def budget_hours(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(cost center, runtime) -> (hours with spending, hours within the budget): indicator M9.

        A budget is of a cost center, so an hour is within it or not for all runtimes alike; where there is none,
        nothing is promised. Computed, not counted: a late or corrected cost event may change the verdict on an hour.
        """
        totals = dict(self.settled)
        self._add_hours(totals, self.hours)
        return totals

    @property
    def now(self) -> float:
        """What its log has reached, seconds since the epoch; 0 before the first heartbeat."""
        return self.clock.at

    @property
    def heard_at(self) -> float:
        """When the last heartbeat was written, by its own stamp; seconds since the epoch."""
        return self.clock.stamp

    @property
    def replays_waiting(self) -> int:
        """Runs that were chosen and whose replay has not come."""
        return len(self._waiting.originals)

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Declare lost what is missing for the grace at `now` (seconds watched), and let cool-downs end."""
        for key in sorted(self._compared):  # an order that a restored stage has as well
            for signal, canary in self.streams[key].canaries.items():
                self._forget_canaries(self.streams[key], signal, canary)
        self._end_conditions(now)
        self._watch_spending(now)
        for watch, lane, firing in self.drift.cooled_down(now):
            why = "the cool-down has ended; a change that stays may be said again"
            self._said_ended(Ended(watch.labels(lane), firing, why), self.clock.at)
        for name, producer in list(self.producers.items()):
            recovered, far = producer.merge(now)
            self.counters["recovered",] += recovered
            if far:
                self._implausible(name, far)
            if now - producer.heard_at > _SILENT_SECONDS:
                del self.producers[name]  # it will not come back under this name, and the next one needs the place
                continue
            ranges = producer.tick(now, self._catalog.sequence_grace_seconds)
            if ranges:
                self._gap(name, ranges)

    def _end_conditions(self, now: float) -> None:
        outcomes, quiet = self._output.outcomes, self._catalog.alerting.quiet_seconds
        for endpoint, alert in self.routings.quiet(now, self.clock.at, quiet):
            outcomes.alerts.append(alert)
            outcomes.directives += lifted(endpoint)
        for conditions in (self.gaps, self.violations, self.divergences, self.conflicts):
            outcomes.alerts += [alert for _, alert in conditions.quiet(now, self.clock.at, quiet)]
        for endpoint, alert in self.routings.more(now, self.clock.at):
            outcomes.alerts.append(alert)
            outcomes.directives += [given] if (given := disabling(endpoint, alert)) is not None else []
        for conditions in (self.gaps, self.violations, self.divergences, self.conflicts):
            outcomes.alerts += [alert for _, alert in conditions.more(now, self.clock.at)]

    def _watch_spending(self, now: float) -> None:
        """Say which cost centers spend too much, and which do no more; one order stands for both reasons."""
        outcomes, at = self._output.outcomes, self.clock.at
        for alert, order in self.burn.tick(at, now, self._catalog.alerting, self.budgets):
            outcomes.alerts.append(alert)
            if not (isinstance(order, Lifted) and order.target in self.spent.hours):
                outcomes.directives.append(order)
        for alert, over in self.spent.ended(at, self._is_within):
            outcomes.alerts.append(alert)
            if over is not None and over.target not in self.burn.conditions.standing:
                outcomes.directives.append(over)

    def _implausible(self, producer: str, count: int) -> None:
        self.counters["implausible",] += count
        text = f"sequence numbers of {producer} are more than {MOST_JUMP:,} away from all others"
        name = self.gaps.place(producer)
        alert = self.gaps.take(
            name,
            {"producer": name},
            text,
            severity="ticket",
            position=("far", f"{self.clock.watched:.3f}"),
            at=self.clock.at,
            watched=self.clock.watched,
            count=count,
        )
        self._output.outcomes.alerts += [alert] if alert is not None else []

    def _gap(self, producer: str, ranges: list[tuple[int, int]]) -> None:
        lost = sum(last - first + 1 for first, last in ranges)
        self.counters["lost",] += lost
        name = self.gaps.place(producer)
        alert = self.gaps.take(
            name,
            {"producer": name},
            f"{lost} events of {producer} never arrived (first missing: {ranges[0][0]})",
            severity="ticket",
            position=(ranges[0][0],),
            at=self.clock.at,
            watched=self.clock.watched,
            count=lost,
        )
        self._output.outcomes.alerts += [alert] if alert is not None else []
        # Which runs they were of nobody knows; every partition is told, so that a run that lacks something says why.
        self._output.outcomes.gaps.extend(Gap(partition, producer) for partition in range(self.partitions))

    # -- durability --------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The whole state as versioned msgpack."""
        return msgspec.msgpack.encode(
            _State(
                VERSION,
                self.clock,
                [(topic, partition, offset) for (topic, partition), offset in self._applied.items()],
                self.streams,
                self.producers,
                self.budgets,
                [(*key, hour.microdollars) for key, hour in self.hours.items()],
                self._newest_hour,
                [(*key, *figures) for key, figures in self.settled.items()],
                self.drift.snapshot(),
                self.routings,
                self.gaps,
                self.violations,
                self.divergences,
                self.conflicts,
                self._waiting,
                list(self._marks),
                self.spent,
                self.burn,
                sorted(self.counters.items()),
                self.sums,
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
        self.routings, self.gaps, self.violations = state.routings, state.gaps, state.violations
        self.divergences, self._waiting = state.divergences, state.waiting
        self.conflicts = state.conflicts
        self._marks = dict.fromkeys(state.marks)
        self.spent, self.burn = state.spent, state.burn
        self._applied = {(topic, partition): offset for topic, partition, offset in state.applied}
        self.hours = {(center, runtime, hour): Hour(amount) for center, runtime, hour, amount in state.hours}
        self._newest_hour, self.budgets = state.newest_hour, state.budgets
        self.settled = {(center, runtime): (hours, good) for center, runtime, hours, good in state.settled}
        self.counters.clear()
        self.counters.update(state.counters)
        self.sums = state.sums
        self._ended = self.drift.restore(state.drift)
        self._compared = {key for key, stream in self.streams.items() if stream.canaries}


P = TypeVar("P", Observation, Spending, Budget, Unauthorized, Counted, Conflict)


def _check(pack: Pack) -> None:
    """Refuse a pack whose types are right and whose values cannot be.

    Raises
    ------
    ValueError
        If a key is no stream, or sequence numbers are cut off.
    """
    if any(key.count("\x1f") != 1 for key in pack.observations):
        raise ValueError("a key of observations is no stream")
    if any(len(numbers) % 8 for numbers in pack.sequences.values()):
        raise ValueError("sequence numbers of a producer are cut off")


def _after(offset: int, items: list[P]) -> list[P]:
    """What came after an offset."""
    return [item for item in items if item.offset > offset]
