"""The run stage: what one partition of `jobs` and `results` says about its runs.

Rules of this file. Its state is a function of the records it was given: time comes from heartbeat records in the log,
so a replay meets every tick where the first run met it. Jobs and results of a run come from two logs whose order
against each other is not fixed, so whatever is counted here does not depend on it.

The way of an event: decode -> admit (once only) -> its handler -> settle the run when nothing is missing.
"""

from collections.abc import Callable
from hashlib import sha256
from math import ceil
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import Struct

from app.conventions import JOBS, RESULTS
from app.core import events, evidence, ledger
from app.core.catalog import UNKNOWN, Catalog
from app.core.decode import MAX_AHEAD_SECONDS, Reason, Rejection, decode_job, decode_result, trace_id
from app.core.evidence import BITS, mask
from app.core.fidelity import Ideal
from app.core.forgotten import Forgotten
from app.core.identity import bucket, fingerprint8, outcome_id, packed_digest
from app.core.outcomes import DeadLetter, Observation, Outcomes, Pack, Spending, Violation
from app.core.policy import ROUTING_RULE, Policy, Verdict
from app.core.records import Batch, Record, is_heartbeat
from app.core.run import (
    Closed,
    Decision,
    Declared,
    Judged,
    Origin,
    Own,
    Results,
    Routing,
    Run,
    declared_values,
    own_values,
    routing_values,
)
from app.core.sequences import packed
from app.core.sli import Counters

_T = TypeVar("_T")
VERSION: Final = 1
#: The most that one heartbeat moves the stage's time. What is beyond it is the processor's own absence, and no run is
#: closed for time that nobody watched.
MAX_STEP_SECONDS: Final = 1.5
_SHARED: Final = 65_536
_DIGEST_MODULUS: Final = 1 << 256
_NO_RESULT: Final = frozenset({"rejected", "failed", "timed_out"})


class _State(Struct):
    version: int
    clocks: dict[str, float]
    watched: dict[str, float]
    runs: dict[str, Run]
    closed: dict[str, Closed]
    forgotten: list[bytes]
    counters: list[tuple[tuple[str, ...], int]]


def stream_key(workload: str, backend: str) -> str:
    """The key of a (workload, backend) pair in `samples`; the separator is in neither name."""
    return f"{workload}\x1f{backend}"


class RunStage:
    """The runs of one partition.

    Parameters
    ----------
    catalog
        What the deployment knows.
    policy
        The rules in force.
    partitions
        How many partitions `samples` has.
    """

    topics: Final = (JOBS, RESULTS)

    def __init__(self, catalog: Catalog, policy: Policy, partitions: int) -> None:
        self._catalog = catalog
        self._policy = policy
        self._partitions = partitions
        self.clocks = dict.fromkeys(self.topics, 0.0)
        #: Seconds watched in each log: its clock, less the time that nobody watched. Runs are due by what both reached.
        self.watched = dict.fromkeys(self.topics, 0.0)
        self.runs: dict[str, Run] = {}
        self.closed: dict[str, Closed] = {}
        self.counters = Counters()
        self._forgotten = Forgotten()
        #: Second -> runs that may be due then; a run that moved on is found again at its new second.
        self._due: dict[int, list[str]] = {}
        self._seconds: dict[int, int] = {}
        self._declared: dict[Declared, tuple[Declared, int]] = {}
        self._values: dict[Any, Any] = {}
        self._required: dict[tuple[str | None, str | None, bool], int] = {}
        self._outcomes = Outcomes()
        self._batch = Batch(JOBS, 0, 0, 0, ())
        self._sequences: dict[str, list[int]] = {}

    # -- the way of a batch ------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> Outcomes:
        """Take in a batch of one of the two input topics and say what follows from it.

        Parameters
        ----------
        batch
            Consecutive records of `jobs` or `results`, of this stage's partition.
        """
        self._batch, self._outcomes, self._sequences = batch, Outcomes(), {}
        take = self._take_job if batch.topic == JOBS else self._take_result
        for record in batch.records:
            if record.headers and is_heartbeat(record):
                self._advance(batch.topic, record.timestamp / 1000)
            else:
                take(record)
        for producer, numbers in self._sequences.items():
            self._pack(producer).sequences[producer] = packed(numbers)
        return self._outcomes

    def _take_job(self, record: Record) -> None:
        event = decode_job(record.value, record.headers)
        if isinstance(event, Rejection):
            self._reject(record, event)
            return
        subject = self._admit(event, record, JOBS)
        if subject is None:
            return
        if type(subject) is Closed:
            _LATE.get(type(event), _ignore)(self, event, subject, record.offset)
            return
        code = ledger.CODES.get(type(event))
        if code is not None:
            first_end = 1 << code & ledger.TERMINAL_BITS and not subject.steps & ledger.TERMINAL_BITS
            subject.steps |= 1 << code
            subject.history += ledger.entry(code, event.at.timestamp())
            if first_end:
                self._schedule(event.run_id, subject, self.watched[JOBS] + self._catalog.grace_seconds)
        if record.headers and subject.trace_id is None:
            self._trace(subject, record)
        _HANDLERS.get(type(event), _ignore)(self, event, subject, record.offset)
        subject.present = self._shared(subject.present)
        if subject.steps & ledger.TERMINAL_BITS and not subject.complete:
            self._settle_if_complete(event.run_id, subject, JOBS)

    def _take_result(self, record: Record) -> None:
        event = decode_result(record.value, record.headers)
        if isinstance(event, Rejection):
            self._reject(record, event)
            return
        subject = self._admit(event, record, RESULTS)
        if subject is None:
            return
        observation = self._observe(event, record.offset)
        if type(subject) is Closed:
            return
        if record.headers and subject.trace_id is None:
            self._trace(subject, record)
        self._add_result(event, subject, observation, record.value or b"")
        subject.present = self._shared(subject.present)
        if subject.steps & ledger.TERMINAL_BITS and not subject.complete:
            self._settle_if_complete(event.run_id, subject, RESULTS)

    def _reject(self, record: Record, rejection: Rejection) -> None:
        self.counters["rejected", rejection.reason.value] += 1
        batch = self._batch
        self._outcomes.dead_letters.append(
            DeadLetter(record, batch.topic, batch.partition, rejection.reason, rejection.detail)
        )

    def _admit(self, event: events.Event, record: Record, topic: str) -> Any:
        """The run (or what is kept of it, once closed) that an event belongs to; None if it is not to be applied."""
        run_id = event.run_id
        numbers = self._sequences.get(event.producer)
        if numbers is None:
            numbers = self._sequences[event.producer] = []
        numbers.append(event.seq)
        if 0 < record.timestamp < (event.at.timestamp() - MAX_AHEAD_SECONDS) * 1000:
            detail = f"at is more than {MAX_AHEAD_SECONDS:.0f} s ahead of the record's own time"
            self._reject(record, Rejection(Reason.TIME_OUT_OF_RANGE, detail))
            return None
        subject: Run | Closed | None = self.runs.get(run_id)
        if subject is None:
            subject = self.closed.get(run_id)
            if subject is None:
                if run_id in self._forgotten:
                    detail = "the run was closed and its events are no longer remembered"
                    self._reject(record, Rejection(Reason.TOO_LATE, detail))
                    return None
                subject = self._open(run_id, topic)
        mark = fingerprint8(event.event_id)
        if mark in subject.seen:
            self.counters["duplicate", topic] += 1
            return None
        subject.seen += mark
        self.counters["applied", topic] += 1
        if type(subject) is Closed:
            self.counters["late", topic] += 1
        return subject

    def _open(self, run_id: str, topic: str) -> Run:
        run = self.runs[run_id] = Run(closes_at=0)
        self._schedule(run_id, run, self.watched[topic] + self._catalog.deadline_seconds)
        return run

    @staticmethod
    def _trace(run: Run, record: Record) -> None:
        run.trace_id = trace_id(record.headers)
        if run.trace_id is not None:
            run.present |= BITS["trace_id"]

    # -- what each job event does ------------------------------------------------------------------------------------

    def _submitted(self, event: events.Submitted, run: Run, offset: int) -> None:
        if run.declared is not None:
            return  # a second submission of one run: seen in its history as an illegal transition
        declared = Declared(*declared_values(event))
        shared = self._declared.get(declared)
        if shared is None:
            present = mask(Declared.__struct_fields__, declared_values(event))
            shared = self._share(declared, present)
        run.declared, present = shared
        token, inputs, *rest = own_values(event)
        run.own = Own(token, packed_digest(inputs), *rest)
        run.present |= present | mask(Own.__struct_fields__, own_values(event))
        if event.deadline_seconds is not None and not run.steps & ledger.TERMINAL_BITS:
            self._schedule(event.run_id, run, self.watched[JOBS] + event.deadline_seconds)
        for judged in run.pending or ():
            # Spending is forwarded under the offset that made it known, or its reader would take it for a repeat; a
            # violation keeps the place of the routing it is about.
            place = offset if isinstance(judged.event, events.Cost) else judged.offset
            _LATE[type(judged.event)](self, judged.event, run, place)
        run.pending = None

    def _share(self, declared: Declared, present: int) -> tuple[Declared, int]:
        if len(self._declared) >= _SHARED:
            self._declared.clear()
        self._declared[declared] = declared, present
        return declared, present

    def _admission(self, event: events.Admitted | events.Rejected, run: Run, offset: int) -> None:
        run.decision_id, run.policy_revision = event.decision_id, self._text(event.policy_revision)
        run.present |= mask(("decision_id", "policy_revision"), (event.decision_id, event.policy_revision))

    def _routed(self, event: events.Routed, run: Run, offset: int) -> None:
        routing = self._routing(event)
        run.routing = routing
        run.present |= mask(evidence.ROUTED, routing_values(event))
        self._judge_or_wait(event, run, offset)

    def _routing(self, event: events.Routed) -> Routing:
        return self._shared(Routing(*routing_values(event)))

    def _text(self, text: str | None) -> str | None:
        return None if text is None else self._shared(text)

    def _shared(self, value: _T) -> _T:
        """The one object that stands for all equal values; most runs say the same as others."""
        if len(self._values) >= _SHARED:
            self._values.clear()
        return cast(_T, self._values.setdefault(value, value))

    def _fell_back(self, event: events.FellBack, subject: Run | Closed, offset: int) -> None:
        self.counters["fallback",] += 1

    def _decided(self, event: events.DecisionMade, run: Run, offset: int) -> None:
        decision = run.decision = run.decision or Decision()
        decision.outcome, decision.explanation = self._text(event.outcome), event.explanation
        decision.acted_on = event.acted_on
        if event.explanation is not None:
            run.present |= BITS["explanation"]
        self._judge_or_wait(event, run, offset)

    def _reviewed(self, event: events.Review, run: Run, offset: int) -> None:
        decision = run.decision = run.decision or Decision()
        decision.reviewer, decision.verdict = self._text(event.reviewer), self._text(event.verdict)
        if event.reviewer is not None:
            run.present |= BITS["review"]
        self._count_review(event, run, offset)

    def _count_review(self, event: events.Review, subject: Run | Closed, offset: int) -> None:
        self.counters["review",] += 1

    def _cost(self, event: events.Cost, run: Run, offset: int) -> None:
        run.microdollars += round(event.amount_usd * 1e6)
        run.present |= BITS["cost_usd"]
        self._judge_or_wait(event, run, offset)

    def _judge_or_wait(self, event: Any, run: Run, offset: int) -> None:
        """Judge by what the run declared; where that has not come yet, set the event aside until it does."""
        if run.declared is None:
            if run.pending is None:
                run.pending = []
            run.pending.append(Judged(offset, event))
        else:
            _LATE[type(event)](self, event, run, offset)

    # -- judgements: each a function of the event and of what the run declared ---------------------------------------

    def _judge_routing(self, event: events.Routed, subject: Run | Closed, offset: int) -> None:
        verdict = self._policy.judge(subject.declared, self._routing(event))
        unauthorized = any(breach.rule.name == ROUTING_RULE for breach in verdict.breaches)
        self.counters.judge("M6", not unauthorized, self._catalog.provider(event.provider))
        if not subject.judged:
            subject.judged = True
            self.counters["valid", "M5"] += 1
        if verdict.breaches and not subject.violated:
            subject.violated = True
            self.counters["bad", "M5"] += 1
        for breach in verdict.breaches:
            self.counters["violation", breach.rule.name, breach.rule.severity] += 1
            self._outcomes.violations.append(self._violation(event, breach, verdict, offset))

    def _violation(self, event: events.Routed, breach: Any, verdict: Verdict, offset: int) -> Violation:
        rule = breach.rule
        return Violation(
            violation_id=outcome_id("violation", JOBS, self._batch.partition, offset, rule.name, breach.reason),
            run_id=event.run_id,
            rule=rule.name,
            severity=rule.severity,
            owner=rule.owner,
            control=rule.control,
            reason=breach.reason,
            policy_revision=self._policy.revision,
            input_digest=verdict.input_digest,
            at=evidence.instant(event.at.timestamp()),
        )

    def _judge_decision(self, event: events.DecisionMade, subject: Run | Closed, offset: int) -> None:
        declared = subject.declared
        floor = self._catalog.floor(declared.workload if declared else None)
        explained = event.explanation is not None and event.explanation.score >= floor
        self.counters.judge("M3", explained, (declared.tier if declared else None) or UNKNOWN)

    def _judge_cost(self, event: events.Cost, subject: Run | Closed, offset: int) -> None:
        declared = subject.declared
        center = self._catalog.cost_center(declared.cost_center if declared else None)
        runtime = (declared.runtime if declared else None) or UNKNOWN
        microdollars = round(event.amount_usd * 1e6)
        # Charges and refunds apart: a counter must never fall.
        self.counters["spend" if microdollars >= 0 else "refund", center, runtime] += abs(microdollars)
        if declared is None:
            return  # judged by a tick, whose place against the other topic is not fixed: counted, not forwarded
        at = (event.billed_at or event.at).timestamp()
        self._pack(center).spending.append(Spending(offset, at, center, runtime, microdollars))

    # -- results -----------------------------------------------------------------------------------------------------

    def _observe(self, event: events.Result, offset: int) -> Observation:
        """The observation a result makes, handed on to the streams."""
        ideal = self._ideal(event)
        value = error = None
        if ideal is not None and len(next(iter(event.counts))) != ideal.width:
            self.counters["no_ideal",] += 1
        elif ideal is not None:
            value, error = ideal.fidelity(event.counts, event.shots)
        observation = Observation(
            offset,
            event.at.timestamp(),
            event.run_id,
            event.calibration_id,
            value,
            error,
            event.queue_seconds,
            event.execution_seconds,
        )
        key = stream_key(self._catalog.workload(event.workload), self._catalog.backend(event.backend))
        self._pack(key).observations.setdefault(key, []).append(observation)
        return observation

    def _ideal(self, event: events.Result) -> Ideal | None:
        if event.ideal is not None:
            try:
                return Ideal(event.ideal)
            except ValueError:
                self.counters["no_ideal",] += 1
                return None
        known = self._catalog.ideals.get(event.ideal_id or "")
        if known is None:
            self.counters["no_ideal",] += 1
        return known

    def _add_result(self, event: events.Result, run: Run, observation: Observation, value: bytes) -> None:
        digest = int.from_bytes(sha256(value).digest(), "big")
        results = run.results
        if results is None:
            calibrated_at = None if event.calibrated_at is None else event.calibrated_at.timestamp()
            results = run.results = Results(
                digest=bytes(32),
                origin=self._shared(
                    Origin(event.provider, event.backend, event.calibration_id, calibrated_at, event.environment_digest)
                ),
            )
            run.present |= mask(
                ("calibration_id", "calibrated_at", "result_environment_digest", "result_digest", "result_shots"),
                (event.calibration_id, event.calibrated_at, event.environment_digest, True, True),
            )
        total = (int.from_bytes(results.digest, "big") + digest) % _DIGEST_MODULUS
        results.digest = total.to_bytes(32, "big")
        results.n += 1
        results.shots += event.shots
        if observation.fidelity is not None and observation.standard_error is not None:
            results.fidelity_n += 1
            results.fidelity_sum += observation.fidelity
            results.error_sum += observation.standard_error**2
            run.present |= BITS["fidelity"]
        if event.provenance is not None:
            results.signed = True
            run.present |= BITS["signature"]
        if event.not_given:
            known = {name: text for name, text in event.not_given.items() if name in BITS}
            results.not_given = {**(results.not_given or {}), **known}

    def _pack(self, key: str) -> Pack:
        """The pack of this batch for the partition that a key of the streams lives in."""
        target = bucket(key, self._partitions)
        pack = self._outcomes.packs.get(target)
        if pack is None:
            batch = self._batch
            pack = self._outcomes.packs[target] = Pack(batch.topic, batch.partition, batch.first, batch.next)
        return pack

    # -- time and closing --------------------------------------------------------------------------------------------

    def _schedule(self, run_id: str, run: Run, at: float) -> None:
        second = ceil(at)
        # Runs that are due together share one integer.
        run.closes_at = second = self._seconds.setdefault(second, second)
        self._due.setdefault(second, []).append(run_id)

    def _advance(self, topic: str, at: float) -> None:
        """A heartbeat: the clock of one topic moves, and time is what both topics have reached.

        Each log is timed by itself, so that how the two are interleaved moves no time.
        """
        step = at - self.clocks[topic]
        if step <= 0:
            return
        self.clocks[topic] = at
        before = self.time
        self.watched[topic] += min(step, MAX_STEP_SECONDS)
        if self.time > before:
            self.tick(self.time)

    @property
    def time(self) -> float:
        """Seconds watched in both logs."""
        return min(self.watched.values())

    @property
    def now(self) -> float:
        """What both clocks have reached, seconds since the epoch; 0 before the first heartbeats."""
        return min(self.clocks.values())

    def tick(self, now: float) -> None:
        """Close what is due at `now` (seconds watched) and forget what was closed long ago."""
        for second in sorted(second for second in self._due if second <= now):
            for run_id in sorted(set(self._due.pop(second))):  # an order that a restored stage has as well
                run = self.runs.get(run_id)
                if run is not None and run.closes_at == second:
                    self._close(run_id, run)
            self._seconds.pop(second, None)
        horizon = now - self._catalog.closed_retention_seconds
        while self.closed:
            run_id = next(iter(self.closed))
            if self.closed[run_id].closed_at > horizon:
                break
            del self.closed[run_id]
            self._forgotten.add(run_id)

    def _settle_if_complete(self, run_id: str, run: Run, topic: str) -> None:
        """A run that lacks nothing closes after a short while, in which what else is on its way may come in."""
        tier = run.declared.tier if run.declared is not None else None
        key = tier, evidence.effective_runtime(run), bool(run.steps & _NO_RESULT_BITS)
        bits = self._required.get(key)
        if bits is None:
            bits = self._required[key] = sum(BITS[name] for name in self._required_fields(run))
        if run.present & bits == bits:
            run.complete = True
            self._schedule(run_id, run, self.watched[topic] + self._catalog.settle_seconds)

    def _required_fields(self, run: Run) -> tuple[str, ...]:
        tier = run.declared.tier if run.declared is not None else None
        fields = self._catalog.requires(tier).fields(evidence.effective_runtime(run))
        if run.steps & _NO_RESULT_BITS:
            # A run that was refused or failed owes nothing that only comes after it ran.
            return tuple(name for name in fields if evidence.SOURCES[name] in {"submitted", "admitted"})
        return fields

    def _close(self, run_id: str, run: Run) -> None:
        for judged in run.pending or ():
            _LATE[type(judged.event)](self, judged.event, run, judged.offset)
        required = self._required_fields(run)
        record = evidence.collect(run_id, run, required)
        tier = run.declared.tier if run.declared is not None else None
        self.counters.judge("M1", record.complete, tier or UNKNOWN)
        self.counters["closed", record.closed] += 1
        self.counters["illegal",] += len(record.illegal_transitions)
        for name in required:
            if record.fields[name] is None:
                self.counters["missing", name] += 1
        self._outcomes.evidence.append(record)
        del self.runs[run_id]
        self.closed[run_id] = Closed(self.time, run.seen, run.declared, run.judged, run.violated)

    # -- durability --------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The whole state as versioned msgpack."""
        return msgspec.msgpack.encode(
            _State(
                VERSION,
                self.clocks,
                self.watched,
                self.runs,
                self.closed,
                self._forgotten.snapshot(),
                list(self.counters.items()),
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot.

        Raises
        ------
        ValueError
            If the snapshot is of a version this code does not read, or is damaged.
        """
        state = read_state(snapshot, _State, VERSION)
        self.clocks, self.watched, self.closed = state.clocks, state.watched, state.closed
        self.runs = state.runs
        self.counters = Counters(state.counters)
        self._forgotten = Forgotten(state.forgotten)
        self._due = {}
        for run_id, run in self.runs.items():
            self._schedule(run_id, run, run.closes_at)
            run.policy_revision = self._text(run.policy_revision)
            if run.routing is not None:
                run.routing = self._shared(run.routing)
            if run.results is not None:
                run.results.origin = self._shared(run.results.origin)
        subjects: list[Run | Closed] = [*self.runs.values(), *self.closed.values()]
        for subject in subjects:
            if subject.declared is not None:
                declared = subject.declared
                present = mask(Declared.__struct_fields__, declared_values(declared))
                subject.declared = (self._declared.get(declared) or self._share(declared, present))[0]


_NO_RESULT_BITS: Final = sum(1 << ledger.NAMES.index(name) for name in _NO_RESULT)

_Handler = Callable[[RunStage, Any, Any, int], None]


def _ignore(stage: RunStage, event: Any, subject: Any, offset: int) -> None:
    """Events that are only a step: their time is in the history already."""


_HANDLERS: Final[dict[type, _Handler]] = {
    events.Submitted: RunStage._submitted,
    events.Admitted: RunStage._admission,
    events.Rejected: RunStage._admission,
    events.Routed: RunStage._routed,
    events.FellBack: RunStage._fell_back,
    events.DecisionMade: RunStage._decided,
    events.Review: RunStage._reviewed,
    events.Cost: RunStage._cost,
}
#: Judgements and counts; also all that is still done for an event of a run that has closed.
_LATE: Final[dict[type, _Handler]] = {
    events.Routed: RunStage._judge_routing,
    events.DecisionMade: RunStage._judge_decision,
    events.Cost: RunStage._judge_cost,
    events.FellBack: RunStage._fell_back,
    events.Review: RunStage._count_review,
}


def read_state(snapshot: bytes, kind: Any, version: int) -> Any:
    """Decode a snapshot of a known version.

    Raises
    ------
    ValueError
        If it is of another version or damaged.
    """
    try:
        found = msgspec.msgpack.decode(snapshot, type=_Header).version
        if found != version:
            raise ValueError(f"the snapshot has version {found}, this code reads {version}")
        return msgspec.msgpack.decode(snapshot, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the snapshot is damaged: {error}") from error


class _Header(Struct):
    version: int
