"""The run stage: what one partition of `jobs` and `results` says about its runs.

Rules of this file. Its state is a function of the records it was given: time comes from heartbeat records in the log,
so a replay meets every tick where the first run met it. Jobs and results of a run, and what the gate answered about
it, come from three logs whose order against each other is not fixed, so whatever is counted here does not depend on it.

The way of an event: decode -> admit (once only) -> its handler -> settle the run when nothing is missing.
"""

from collections.abc import Callable
from math import ceil, inf
from typing import Any, Final, get_args

import msgspec
from msgspec import Raw, Struct

from app.conventions import ADMISSIONS, JOBS, RESULTS
from app.core import events, evidence, facts, ledger, results
from app.core.answers import Answers
from app.core.catalog import UNKNOWN, Catalog
from app.core.clock import Clock
from app.core.decode import MAX_AHEAD_SECONDS, Reason, Rejection, decode_job, decode_result
from app.core.evidence import BITS, mask
from app.core.forgotten import MOST as MOST_PAYERS
from app.core.forgotten import Forgotten
from app.core.identity import fingerprint8, fingerprint8_of, outcome_id, packed_digest, unpacked_digest
from app.core.in_force import InForce
from app.core.in_force import State as PolicyState
from app.core.judge import JUDGED, Judge
from app.core.outcomes import Addendum, Outcomes, ReplayRequest
from app.core.output import Output
from app.core.policy import Policies, Policy, PolicyError
from app.core.records import Batch, Control, Record, control
from app.core.run import (
    Closed,
    Decision,
    Judged,
    Own,
    Payer,
    Routing,
    Run,
    Subject,
    own_values,
    routing_values,
)
from app.core.sequences import packed
from app.core.shared import Shared
from app.core.trace import context, traceparent

VERSION: Final = 6
#: Events of one run, at most: a run id that is used without end must not grow without end.
MAX_EVENTS: Final = 10_000
_NO_RESULT: Final = frozenset({"rejected", "failed", "timed_out"})
_NO_RESULT_BITS: Final = sum(1 << ledger.NAMES.index(name) for name in _NO_RESULT)
#: What is judged by the declaration, and waits for it.
_BY_DECLARATION: Final = events.Routed | events.DecisionMade | events.Cost


class _State(Struct):
    version: int
    clocks: dict[str, Clock]
    runs: dict[str, Run]
    closed: dict[str, Closed]
    forgotten: list[tuple[bytes, bytes]]
    charges: list[tuple[bytes, bytes]]
    payers: list[Payer]
    gaps: dict[str, float]
    policy: PolicyState
    answers: dict[bytes, int]
    counters: list[tuple[tuple[str, ...], int]]


class RunStage:
    """The runs of one partition.

    Parameters
    ----------
    catalog
        What the deployment knows.
    policies
        The rules in force, and those that may follow.
    partitions
        How many partitions `samples` has.
    exemptions_at
        The time that exemptions go by, seconds since the epoch; that of the log of the jobs without.
    """

    topics: Final = (JOBS, RESULTS, ADMISSIONS)

    def __init__(
        self,
        catalog: Catalog,
        policies: Policies,
        partitions: int,
        *,
        exemptions_at: Callable[[], float] | None = None,
    ) -> None:
        self._catalog = catalog
        self._output = Output(partitions)
        self._in_force = InForce(policies, self._output, partitions, exemptions_at or (lambda: self.clocks[JOBS].at))
        self._judge = Judge(catalog, self._in_force, self._output)
        self._observer = results.Observer(catalog, self._output)
        self._shared = Shared()
        self.clocks = {topic: Clock() for topic in self.topics}
        self.runs: dict[str, Run] = {}
        self.closed: dict[str, Closed] = {}
        self.counters = self._output.counters
        self._takes = {JOBS: self._take_job, RESULTS: self._take_result, ADMISSIONS: self._take_answer}
        self._answers = Answers()
        #: Runs that were closed long ago, with a number for who paid; and their charges.
        self._forgotten, self._charges = Forgotten(), Forgotten(most=_CHARGES_KEPT)
        self._payers: dict[Payer, int] = {}
        #: Producer -> when it was last said to have lost events, in seconds watched.
        self._gaps: dict[str, float] = {}
        #: Second -> runs that may be due then; a run that moved on is found again at its new second.
        self._due: dict[int, list[str]] = {}
        self._seconds: dict[int, int] = {}
        self._required: dict[tuple[str | None, str | None, bool], int] = {}
        self._sequences: dict[str, list[int]] = {}
        #: Events of the batch at hand that were applied; counted once for all of them.
        self._admitted = 0

    # -- the way of a batch ------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> Outcomes:
        """Take in a batch of one of the input topics and say what follows from it.

        Parameters
        ----------
        batch
            Consecutive records of one of `topics`, of this stage's partition.
        """
        output = self._output
        output.begin(batch)
        self._sequences = {}
        take = self._takes[batch.topic]
        for record in batch.records:
            said = control(record) if record.headers else None
            if said is None:
                take(record)
            else:
                self._controlled(batch.topic, record, said)
        if self._admitted:
            self.counters["applied", batch.topic] += self._admitted
            self._admitted = 0
        for producer, numbers in self._sequences.items():
            output.pack(producer).sequences[producer] = packed(numbers)
        return output.outcomes

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

    def _take_job(self, record: Record) -> None:
        event = decode_job(record.value, record.headers)
        if isinstance(event, Rejection):
            self._output.reject(record, event.reason, event.detail)
            return
        at = event.at.timestamp()
        subject = self._admit(event, at, record, JOBS)
        if subject is None:
            return
        code, handler, judged = _WAYS[type(event)]
        self._judge.read(event, subject, record.offset)
        if type(subject) is Closed:
            self._judge.judge(event, subject, record.offset)
            self._add_to_evidence(event, record, JOBS)
            return
        present = subject.present
        if code is not None:
            self._step(event.run_id, subject, code, at)
        if record.headers and subject.trace is None:
            self._trace(subject, record)
        if handler is not None:
            handler(self, event, subject, record.offset)
        if judged:
            self._judge_or_wait(event, subject, record.offset)
        if subject.present != present:
            subject.present = self._shared.value(subject.present)
        if subject.steps & ledger.TERMINAL_BITS and not subject.complete:
            self._settle_if_complete(event.run_id, subject, JOBS)

    def _take_result(self, record: Record) -> None:
        event = decode_result(record.value, record.headers)
        if isinstance(event, Rejection):
            self._output.reject(record, event.reason, event.detail)
            return
        at = event.at.timestamp()
        subject = self._admit(event, at, record, RESULTS)
        if subject is None:
            return
        observation = self._observer.observe(event, at, record.offset)
        if type(subject) is Closed:
            self._add_to_evidence(event, record, RESULTS)
            return
        present = subject.present
        if record.headers and subject.trace is None:
            self._trace(subject, record)
        results.add(event, subject, observation, record.value or b"", self._shared)
        if subject.present != present:  # most results of a run add to what is there, and complete nothing
            subject.present = self._shared.value(subject.present)
            if subject.steps & ledger.TERMINAL_BITS and not subject.complete:
                self._settle_if_complete(event.run_id, subject, RESULTS)

    def _take_answer(self, record: Record) -> None:
        """A record of the gate: what it answered about a run that will come, has come, or never comes."""
        try:
            answer = self._answers.take(record.value or b"", self.clocks[ADMISSIONS].watched)
        except (msgspec.MsgspecError, RecursionError) as error:
            self._output.reject(record, Reason.MALFORMED_JSON, str(error))
        else:
            self.counters["answer", answer] += 1

    def _admit(self, event: events.Event, at: float, record: Record, topic: str) -> Any:
        """The run (or what is kept of it, once closed) that an event belongs to; None if it is not to be applied."""
        run_id, producer = event.run_id, event.producer
        numbers = self._sequences.get(producer)
        if numbers is None:
            numbers = self._sequences[producer] = []
        numbers.append(event.seq)
        if 0 < record.timestamp < (at - MAX_AHEAD_SECONDS) * 1000:
            detail = f"at is more than {MAX_AHEAD_SECONDS:.0f} s ahead of the record's own time"
            self._output.reject(record, Reason.TIME_OUT_OF_RANGE, detail)
            return None
        subject: Subject | None = self.runs.get(run_id)
        if subject is None:
            subject = self.closed.get(run_id)
            if subject is None:
                payer = self._forgotten.get(fingerprint8(run_id))
                if payer is not None:
                    self._too_late(event, record, payer)
                    return None
                subject = self._open(run_id, topic)
        mark = fingerprint8(event.event_id)
        if mark in subject.seen:
            self.counters["duplicate", topic] += 1
            return None
        if len(subject.seen) >= 8 * MAX_EVENTS:
            self._output.reject(record, Reason.RUN_FULL, f"the run has {MAX_EVENTS} events; use a run id once")
            return None
        subject.seen += mark
        self._admitted += 1
        if type(subject) is Run and producer not in subject.producers:
            subject.producers = self._shared.value((*subject.producers, producer)[-_PRODUCERS_KEPT:])
        return subject

    def _too_late(self, event: events.Event, record: Record, payer: int) -> None:
        """An event of a run that nothing is kept of but who paid for it: a charge counts, as bills come hours late."""
        if not isinstance(event, events.Cost):
            detail = "the run was closed and its events are no longer remembered"
            self._output.reject(record, Reason.TOO_LATE, detail)
            return
        mark = fingerprint8_of(fingerprint8(event.run_id), fingerprint8(event.event_id))
        if self._charges.get(mark) is not None:
            self.counters["duplicate", JOBS] += 1
            return
        self._charges.add(mark)
        self._admitted += 1
        # Its texts are judged as any; whether the run conforms was counted when it was there.
        known = Closed(0.0, b"", None, None, judged=True, violated=True, ruled=True, trace=None, charges=b"")
        self._judge.read(event, known, record.offset)
        self._judge.charge(event, list(self._payers)[payer - 1] if payer else None, record.offset)
        self._add_to_evidence(event, record, JOBS)

    def _forget(self, run_id: str) -> None:
        """Keep of a closed run only that it was there, who paid, and what was charged."""
        closed, mark = self.closed.pop(run_id), fingerprint8(run_id)
        payer, number = self._judge.payer(closed.declared), 0
        if payer is not None and len(self._payers) < MOST_PAYERS:
            number = self._payers.setdefault(payer, len(self._payers) + 1)
        self._forgotten.add(mark, number)
        for at in range(0, len(closed.charges), 8):
            self._charges.add(fingerprint8_of(mark, closed.charges[at : at + 8]))

    def _open(self, run_id: str, topic: str) -> Run:
        run = self.runs[run_id] = Run(closes_at=0)
        self._schedule(run_id, run, self.clocks[topic].watched + self._catalog.deadline_seconds)
        return run

    def _step(self, run_id: str, run: Run, code: int, at: float) -> None:
        first_end = 1 << code & ledger.TERMINAL_BITS and not run.steps & ledger.TERMINAL_BITS
        run.steps |= 1 << code
        run.history += ledger.entry(code, at)
        if first_end:
            self.counters["ended", ledger.NAMES[code]] += 1
            self._schedule(run_id, run, self.clocks[JOBS].watched + self._catalog.grace_seconds)

    @staticmethod
    def _trace(run: Run, record: Record) -> None:
        run.trace = context(record.headers)
        if run.trace is not None:
            run.present |= BITS["trace_id"]

    def _add_to_evidence(self, event: events.Event, record: Record, topic: str) -> None:
        """An event of a closed run: counted, judged, and added to its evidence as it came."""
        self.counters["late", topic] += 1
        self._output.outcomes.evidence.append(
            Addendum(
                evidence_id=outcome_id("addendum", event.run_id, event.event_id),
                run_id=event.run_id,
                topic=topic,
                event=Raw(record.value or b"null"),
            )
        )

    # -- what each job event adds to its run -------------------------------------------------------------------------

    def _submitted(self, event: events.Submitted, run: Run, offset: int) -> None:
        if run.declared is not None:
            return  # a second submission of one run: seen in its history as an illegal transition
        run.declared, present = self._shared.declared(facts.declared(event))
        run.derived = self._shared.value(facts.derived(event))
        own = own_values(event)
        token, inputs, *rest = own
        run.own = Own(token, packed_digest(inputs), *rest)
        run.present |= present | mask(Own.__struct_fields__, own)
        if event.deadline_seconds is not None and not run.steps & ledger.TERMINAL_BITS:
            self._schedule(event.run_id, run, self.clocks[JOBS].watched + event.deadline_seconds)
        self._judge_pending(run, offset)

    def _judge_or_wait(self, event: events.AnyJobEvent, run: Run, offset: int) -> None:
        """Judge by what the run declared; where that has not come yet, set the event aside until it does."""
        if run.declared is None and isinstance(event, _BY_DECLARATION):
            if run.pending is None:
                run.pending = []
            run.pending.append(Judged(offset, event))
        else:
            self._judge.judge(event, run, offset)

    def _judge_pending(self, run: Run, place: int | None = None) -> None:
        """Judge what waited, in the place of the declaration it waited for."""
        for judged in run.pending or ():
            self._judge.judge(judged.event, run, judged.offset, place)
        run.pending = None

    def _admission(self, event: events.Admitted | events.Rejected, run: Run, offset: int) -> None:
        run.decision_id, run.policy_revision = event.decision_id, self._shared.value(event.policy_revision)
        run.present |= mask(("decision_id", "policy_revision"), (event.decision_id, event.policy_revision))

    def _routed(self, event: events.Routed, run: Run, offset: int) -> None:
        run.routing = self._shared.value(Routing(*routing_values(event)))
        run.present |= mask(evidence.ROUTED, routing_values(event))

    def _decided(self, event: events.DecisionMade, run: Run, offset: int) -> None:
        decision = run.decision = run.decision or Decision()
        decision.outcome, decision.explanation = self._shared.value(event.outcome), event.explanation
        decision.acted_on, decision.made, decision.at = event.acted_on, True, event.at.timestamp()
        run.present |= BITS["decision"]
        if event.explanation is not None:
            run.present |= BITS["explanation"]

    def _reviewed(self, event: events.Review, run: Run, offset: int) -> None:
        decision = run.decision = run.decision or Decision()
        decision.reviewer, decision.verdict = self._shared.value(event.reviewer), self._shared.value(event.verdict)
        decision.reviewed_at = min(event.at.timestamp(), decision.reviewed_at or inf)
        if event.reviewer is not None:
            run.present |= BITS["review"]

    def _cost(self, event: events.Cost, run: Run, offset: int) -> None:
        run.microdollars += round(event.amount_usd * 1e6)
        run.present |= BITS["cost_usd"]

    # -- time and closing --------------------------------------------------------------------------------------------

    def _controlled(self, topic: str, record: Record, said: Control) -> None:
        """A record of our own: a heartbeat, or the notice that a producer's events were lost."""
        if said.heartbeat:
            before = self.time
            # Each log is timed by itself, so that how the two are interleaved moves no time.
            if self.clocks[topic].advance(record.timestamp / 1000) and self.time > before:
                self.tick(self.time)
        elif said.gap is not None and topic == JOBS:
            self._gaps[said.gap] = self.time
            while len(self._gaps) > _GAPS_KEPT:
                del self._gaps[next(iter(self._gaps))]
        elif said.policy is not None and topic == JOBS:
            self._in_force.put(record, said.policy)
        else:
            self._output.reject(record, Reason.UNKNOWN_TYPE, "a record of our own that does not belong into this topic")

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._in_force.policy

    @property
    def time(self) -> float:
        """Seconds watched in all logs."""
        return min(clock.watched for clock in self.clocks.values())

    @property
    def now(self) -> float:
        """What all clocks have reached, seconds since the epoch; 0 before the first heartbeats."""
        return min(clock.at for clock in self.clocks.values())

    def open_by_state(self) -> dict[str, int]:
        """How many open runs have got how far: submitted, waiting (routed), running (started), ended."""
        found = dict.fromkeys(("submitted", "waiting", "running", "ended"), 0)
        for run in self.runs.values():
            found[_state(run.steps)] += 1
        return found

    def _schedule(self, run_id: str, run: Run, at: float) -> None:
        second = ceil(at)
        # Runs that are due together share one integer.
        run.closes_at = second = self._seconds.setdefault(second, second)
        self._due.setdefault(second, []).append(run_id)

    def tick(self, now: float) -> None:
        """Close what is due at `now` (seconds watched) and forget what was closed long ago."""
        self._in_force.tick()
        for second in sorted(second for second in self._due if second <= now):
            for run_id in sorted(set(self._due.pop(second))):  # an order that a restored stage has as well
                run = self.runs.get(run_id)
                if run is not None and run.closes_at == second:
                    self._close(run_id, run)
            self._seconds.pop(second, None)
        self._answers.forget(now)
        horizon = now - self._catalog.closed_retention_seconds
        while self.closed:
            run_id = next(iter(self.closed))
            if self.closed[run_id].closed_at > horizon:
                break
            self._forget(run_id)

    def _settle_if_complete(self, run_id: str, run: Run, topic: str) -> None:
        """A run that lacks nothing closes after a short while, in which what else is on its way may come in."""
        tier = run.declared.tier if run.declared is not None else None
        key = tier, evidence.effective_runtime(run), bool(run.steps & _NO_RESULT_BITS)
        bits = self._required.get(key)
        if bits is None:
            bits = self._required[key] = sum(BITS[name] for name in self._required_fields(run))
        if run.present & bits == bits:
            run.complete = True
            self._schedule(run_id, run, self.clocks[topic].watched + self._catalog.settle_seconds)

    def _required_fields(self, run: Run) -> tuple[str, ...]:
        tier = run.declared.tier if run.declared is not None else None
        fields = self._catalog.requires(tier).fields(evidence.effective_runtime(run))
        if run.steps & _NO_RESULT_BITS:
            # A run that was refused or failed owes nothing that only comes after it ran.
            return tuple(name for name in fields if evidence.SOURCES[name] in {"submitted", "admitted"})
        return fields

    def _close(self, run_id: str, run: Run) -> None:
        self._judge_pending(run)
        path = ledger.steps(run.history)
        self._judge.ended(run_id, run, path, self._answers.pop(run_id))
        required = self._required_fields(run)
        since = self.time - self._catalog.deadline_seconds
        gaps = [producer for producer in run.producers if (at := self._gaps.get(producer)) is not None and at >= since]
        record = evidence.collect(run_id, run, path, required, gaps)
        tier = run.declared.tier if run.declared is not None else None
        self.counters.judge("M1", record.complete, tier or UNKNOWN)
        self.counters["closed", record.closed] += 1
        self.counters["illegal",] += len(record.illegal_transitions)
        for name in required:
            if record.fields[name] is None:
                self.counters["missing", name] += 1
        self._output.outcomes.evidence.append(record)
        self._ask_for_replay(run_id, run)
        del self.runs[run_id]
        self.closed[run_id] = Closed(
            self.time, run.seen, run.declared, run.derived, run.judged, run.violated, run.ruled, run.trace, run.charges
        )

    def _ask_for_replay(self, run_id: str, run: Run) -> None:
        """Ask that a run be made again, if it was chosen; a replay is not."""
        rules, declared = self._catalog.alerting.replays, run.declared
        if declared is None or run.results is None or (run.own is not None and run.own.replay_of is not None):
            return
        share = rules.shares.get(declared.tier or "", 0.0)
        if not rules.chosen(run_id, share):
            return
        self._output.outcomes.replay_requests.append(
            ReplayRequest(
                request_id=outcome_id("replay", run_id),
                run_id=run_id,
                workload=declared.workload,
                tier=declared.tier,
                circuit_digest=unpacked_digest(declared.circuit_digest),
                seed=run.own.seed if run.own is not None else None,
                shots=declared.shots,
                backend=run.results.origin.backend,
                at=evidence.instant(self.clocks[JOBS].at),
                chosen_by=f"seed {rules.seed}, {share:g} of tier {declared.tier}",
                traceparent=traceparent(run.trace),
            )
        )

    def finish(self) -> Outcomes:
        """Close every run, whatever it still waits for, and say what follows: a recording has an end."""
        self._output.begin(Batch(JOBS, 0, 0, 0, ()))
        for run_id, run in sorted(self.runs.items()):
            self._close(run_id, run)
        return self._output.outcomes

    # -- durability --------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The whole state as versioned msgpack."""
        return msgspec.msgpack.encode(
            _State(
                VERSION,
                self.clocks,
                self.runs,
                self.closed,
                self._forgotten.snapshot(),
                self._charges.snapshot(),
                list(self._payers),
                self._gaps,
                self._in_force.snapshot(),
                self._answers.snapshot(),
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
        try:
            self._in_force.restore(state.policy)
        except PolicyError as error:
            raise ValueError(f"the policy in the snapshot cannot be used: {error}") from error
        self.clocks, self.runs, self.closed, self._gaps = state.clocks, state.runs, state.closed, state.gaps
        self.counters.clear()
        self.counters.update(state.counters)
        self._forgotten = Forgotten(state.forgotten)
        self._charges = Forgotten(state.charges, most=_CHARGES_KEPT)
        self._payers = {payer: number for number, payer in enumerate(state.payers, 1)}
        self._answers = Answers(state.answers)
        self._due = {}
        for run_id, run in self.runs.items():
            self._schedule(run_id, run, run.closes_at)
            self._shared.again(run)
        for closed in self.closed.values():
            self._shared.again(closed)


def _state(steps: int) -> str:
    if steps & ledger.TERMINAL_BITS:
        return "ended"
    if steps & _STARTED_BIT:
        return "running"
    return "waiting" if steps & _ROUTED_BIT else "submitted"


_ROUTED_BIT: Final = 1 << ledger.NAMES.index("routed")
_STARTED_BIT: Final = 1 << ledger.NAMES.index("started")

#: Producers remembered of one run, and producers remembered as having lost events.
_PRODUCERS_KEPT: Final = 8
_GAPS_KEPT: Final = 1_000
#: Charges of forgotten runs that are known again, in generations: a quarter of a million.
_CHARGES_KEPT: Final = 4

_HANDLERS: Final[dict[type, Callable[[RunStage, Any, Run, int], None]]] = {
    events.Submitted: RunStage._submitted,
    events.Admitted: RunStage._admission,
    events.Rejected: RunStage._admission,
    events.Routed: RunStage._routed,
    events.DecisionMade: RunStage._decided,
    events.Review: RunStage._reviewed,
    events.Cost: RunStage._cost,
}

#: Job event -> (its code as a step, what it adds to its run, whether it is judged).
_WAYS: Final = {
    kind: (ledger.CODES.get(kind), _HANDLERS.get(kind), kind in JUDGED) for kind in get_args(events.AnyJobEvent)
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
