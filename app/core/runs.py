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
from app.core.decode import MAX_AHEAD_SECONDS, Reason, Rejection, read_job, read_result
from app.core.evidence import BITS, mask
from app.core.forgotten import MOST as MOST_PAYERS
from app.core.forgotten import Forgotten
from app.core.identity import (
    content_mark,
    event_mark,
    fingerprint8,
    fingerprint8_of,
    outcome_id,
    packed_digest,
    unpacked_digest,
)
from app.core.in_force import InForce
from app.core.in_force import State as PolicyState
from app.core.judge import JUDGED, Judge
from app.core.outcomes import Addendum, Conflict, Outcomes, ReplayRequest
from app.core.output import Output
from app.core.policy import Policies, Policy
from app.core.records import Batch, Control, Record, control
from app.core.run import (
    SEEN_BYTES,
    Decision,
    Judged,
    Own,
    Payer,
    Routing,
    Run,
    own_values,
    routing_values,
)
from app.core.seal import UNSEALED, Seal
from app.core.sequences import packed
from app.core.shared import Shared
from app.core.trace import context, traceparent
from app.unreadable import UNREADABLE

VERSION: Final = 8
#: Events of one run, at most: a run id that is used without end must not grow without end.
MAX_EVENTS: Final = 10_000
_NO_RESULT: Final = frozenset({"rejected", "failed", "timed_out"})
_NO_RESULT_BITS: Final = sum(1 << ledger.NAMES.index(name) for name in _NO_RESULT)
#: What is judged by the declaration, and waits for it.
_BY_DECLARATION: Final = events.Routed | events.DecisionMade | events.Cost
#: By which a run acts on the world.
_ACTS: Final = events.Routed | events.DecisionMade | events.Review
#: Routings of one run that are told apart; those beyond are one to somewhere unknown.
_EARLIER_KEPT: Final = 64


class _State(Struct):
    version: int
    clocks: dict[str, Clock]
    runs: dict[str, Run]
    closed: dict[str, Run]
    forgotten: list[tuple[bytes, bytes]]
    charges: list[tuple[bytes, bytes]]
    payers: list[Payer]
    gaps: dict[str, float]
    policy: PolicyState
    answers: dict[bytes, tuple[float, bytes]]
    again_at: dict[str, int]
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
    seal
        What control records have to be sealed with.
    """

    topics: Final = (JOBS, RESULTS, ADMISSIONS)

    def __init__(
        self,
        catalog: Catalog,
        policies: Policies,
        partitions: int,
        *,
        exemptions_at: Callable[[], float] | None = None,
        seal: Seal = UNSEALED,
    ) -> None:
        self._catalog = catalog
        self._seal = seal
        self._output = Output(partitions)
        self._in_force = InForce(policies, self._output, partitions, exemptions_at or (lambda: self.clocks[JOBS].at))
        self._judge = Judge(catalog, self._in_force, self._output)
        self._observer = results.Observer(catalog, self._output)
        self._shared = Shared()
        self.clocks = {topic: Clock() for topic in self.topics}
        self.runs: dict[str, Run] = {}
        self.closed: dict[str, Run] = {}
        #: Closed run -> when it is judged once more, in seconds watched.
        self._again_at: dict[str, int] = {}
        self.counters = self._output.counters
        self._takes = {JOBS: self._take_job, RESULTS: self._take_result, ADMISSIONS: self._take_answer}
        self._answers = Answers()
        #: Runs that were closed long ago, with a number for who paid; and their charges.
        self._forgotten, self._charges = Forgotten(), Forgotten(most=_CHARGES_KEPT)
        self._payers: dict[Payer, int] = {}
        #: Producer -> when it was last said to have lost events, in seconds watched.
        self._gaps: dict[str, float] = {}
        #: Second -> open runs that are due then, each at its own `closes_at` alone.
        self._due: dict[int, dict[str, None]] = {}
        self._seconds: dict[int, int] = {}
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
            said = self._control(record) if record.headers else None
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
        read = read_job(record.value, record.headers)
        if isinstance(read, Rejection):
            self._output.reject(record, read.reason, read.detail)
            return
        event, content = read
        at = event.at.timestamp()
        subject = self._admit(event, content, at, record, JOBS)
        if subject is None:
            return
        code, handler, judged = _WAYS[type(event)]
        self._judge.read(event, subject, record.offset)
        if subject.closed_at is not None:
            self._go_on(event, subject, record)
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
        read = read_result(record.value, record.headers)
        if isinstance(read, Rejection):
            self._output.reject(record, read.reason, read.detail)
            return
        event, content = read
        at = event.at.timestamp()
        subject = self._admit(event, content, at, record, RESULTS)
        if subject is None:
            return
        observation = self._observer.observe(event, at, record.offset)
        if subject.closed_at is not None:
            results.add(event, subject, observation, record.value or b"", self._shared)
            self._judge_again(event.run_id)
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
            run_id, found = self._answers.take(record.value or b"", self.clocks[ADMISSIONS].watched)
        except UNREADABLE as error:
            self._output.reject(record, Reason.MALFORMED_JSON, str(error))
            return
        self.counters["answer", found.answer] += 1
        if run_id in self.closed:
            self.closed[run_id].answers += self._answers.pop(run_id)
            self._judge_again(run_id)

    def _admit(self, event: events.Event, content: bytes, at: float, record: Record, topic: str) -> Any:
        """The run (or what is kept of it, once closed) that an event belongs to; None if it is not to be applied."""
        run_id, producer = event.run_id, event.producer
        numbers = self._sequences.get(producer)
        if numbers is None:
            numbers = self._sequences[producer] = []
        numbers.append(event.seq)
        # Where a record has no time of its own, the log's stands for it.
        written_ms = record.timestamp if record.timestamp > 0 else self.clocks[topic].at * 1000
        if 0 < written_ms < (at - MAX_AHEAD_SECONDS) * 1000:
            detail = f"at is more than {MAX_AHEAD_SECONDS:.0f} s ahead of the record's own time"
            self._output.reject(record, Reason.TIME_OUT_OF_RANGE, detail)
            return None
        subject: Run | None = self.runs.get(run_id)
        if subject is None:
            subject = self.closed.get(run_id)
            if subject is None:
                payer = self._forgotten.get(fingerprint8(run_id))
                if payer is not None:
                    self._too_late(event, record, payer)
                    return None
                subject = self._open(run_id, topic)
        mark, said = event_mark(topic, producer, event.event_id), content_mark(content)
        seen = subject.seen
        place = seen.find(mark)
        if place >= 0:
            self._again(event, at, record, topic, said == seen[place + 8 : place + SEEN_BYTES])
            return None
        if len(seen) >= SEEN_BYTES * MAX_EVENTS:
            self._output.reject(record, Reason.RUN_FULL, f"the run has {MAX_EVENTS} events; use a run id once")
            return None
        subject.seen = seen + mark + said
        self._admitted += 1
        if subject.closed_at is None and producer not in subject.producers:
            subject.producers = self._shared.value((*subject.producers, producer)[-_PRODUCERS_KEPT:])
        return subject

    def _again(self, event: events.Event, at: float, record: Record, topic: str, is_same: bool) -> None:
        """Count an event whose id is known: a repeat, or another event under the id of one that was taken in."""
        if is_same:
            self.counters["duplicate", topic] += 1
            return
        producer, offset = event.producer, record.offset
        detail = f"{producer} sent event {event.event_id} of this run before, with other content: an id is used once"
        self._output.reject(record, Reason.CONFLICTING_DUPLICATE, detail)
        conflict = Conflict(offset, at, event.run_id, producer, event.event_id)
        self._output.pack(producer).conflicts.append(conflict)

    def _too_late(self, event: events.Event, record: Record, payer: int) -> None:
        """An event of a run that nothing is kept of but who paid for it: a charge counts, as bills come hours late."""
        # Its texts and acts are judged as any; whether the run conforms was counted when it was there.
        known = Run(closes_at=0, judged=True, violated=True, ruled=True)
        if not isinstance(event, events.Cost):
            detail = "the run was closed and its events are no longer remembered"
            self._output.reject(record, Reason.TOO_LATE, detail)
            if isinstance(event, _ACTS) and event.at.timestamp() > self.now - self._catalog.closed_retention_seconds:
                self._judge.judge(event, known, record.offset)  # no repeat: it was done when the run was long over
            return
        charge = event_mark(JOBS, event.producer, event.event_id)
        mark = fingerprint8_of(fingerprint8(event.run_id), charge)
        if self._charges.get(mark) is not None:
            self.counters["duplicate", JOBS] += 1
            return
        self._charges.add(mark)
        self._admitted += 1
        self._judge.read(event, known, record.offset)
        self._judge.charge(event, list(self._payers)[payer - 1] if payer else None, record.offset)
        self._add_to_evidence(event, record, JOBS)

    def _forget(self, run_id: str) -> None:
        """Keep of a closed run only that it was there, who paid, and what was charged."""
        if (due := self._again_at.pop(run_id, None)) is not None:
            self._judged_again(run_id, due)
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

    def _go_on(self, event: events.AnyJobEvent, run: Run, record: Record) -> None:
        """Take in what came of a run after it was closed: judged by itself, and then the whole of the run once more.

        Who ends a run first and goes on with it afterwards does not escape by that.
        """
        code, handler, _ = _WAYS[type(event)]
        if code is not None:
            run.steps |= 1 << code
            run.history += ledger.entry(code, event.at.timestamp())
        if handler is not None:
            handler(self, event, run, record.offset)
        self._judge.judge(event, run, record.offset)
        if code is not None or isinstance(event, _ACTS):
            self._judge_again(event.run_id)
        self._add_to_evidence(event, record, JOBS)

    def _judge_again(self, run_id: str) -> None:
        """Have a closed run judged once more, when what else is on its way has had the time to come."""
        self._again_at.setdefault(run_id, ceil(self.time + self._catalog.grace_seconds))

    def _judged_again(self, run_id: str, due: int) -> None:
        run = self.closed.get(run_id)
        if run is not None:
            self._judge.ended(run_id, run, ledger.steps(run.history), again=due)

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
                evidence_id=outcome_id("addendum", topic, event.run_id, event.producer, event.event_id),
                run_id=event.run_id,
                topic=topic,
                event=Raw(record.value or b"null"),
            )
        )

    # -- what each job event adds to its run -------------------------------------------------------------------------

    def _submitted(self, event: events.Submitted, run: Run, offset: int) -> None:
        if run.declared is not None or run.closed_at is not None:
            return  # a second submission, or one after the end: seen in the history as an illegal transition
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
        routing, at = self._shared.value(Routing(*routing_values(event))), event.at.timestamp()
        run.present |= mask(evidence.ROUTED, routing_values(event))
        if run.routing is None:
            run.routing = routing
            return
        # Its own step is in the history already.
        times = sorted(time for name, time in ledger.steps(run.history) if name == "routed")
        if at >= times[-1]:
            run.routing, routing, at = routing, run.routing, times[-2]
        run.earlier = self._shared.value(_with_earlier(run.earlier, at, routing))

    def _decided(self, event: events.DecisionMade, run: Run, offset: int) -> None:
        decision = run.decision = run.decision or Decision()
        decision.outcome, decision.explanation = self._shared.value(event.outcome), event.explanation
        decision.acted_on, decision.made, decision.at = event.acted_on, True, event.at.timestamp()
        run.present |= BITS["decision"]
        if event.explanation is not None:
            run.present |= BITS["explanation"]

    def _reviewed(self, event: events.Review, run: Run, offset: int) -> None:
        if event.reviewer is None:
            return  # a review by nobody is none
        decision = run.decision = run.decision or Decision()
        decision.reviewer, decision.verdict = self._shared.value(event.reviewer), self._shared.value(event.verdict)
        decision.reviewed_at = min(event.at.timestamp(), decision.reviewed_at or inf)
        run.present |= BITS["review"]

    def _cost(self, event: events.Cost, run: Run, offset: int) -> None:
        run.microdollars += round(event.amount_usd * 1e6)
        run.present |= BITS["cost_usd"]

    # -- time and closing --------------------------------------------------------------------------------------------

    def _control(self, record: Record) -> Control | Rejection | None:
        batch = self._output.batch
        return control(record, batch.topic, batch.partition, self._seal, self.clocks[batch.topic].at)

    def _controlled(self, topic: str, record: Record, said: Control | Rejection) -> None:
        """A control record: a heartbeat, the notice that a producer's events were lost, or another policy."""
        if isinstance(said, Rejection):
            self._output.reject(record, said.reason, said.detail)
        elif said.heartbeat is not None:
            before = self.time
            # Each log is timed by itself, so that how the two are interleaved moves no time.
            if self.clocks[topic].advance(said.heartbeat) and self.time > before:
                self.tick(self.time)
        elif said.gap is not None and topic == JOBS:
            self._gaps[said.gap] = self.time
            while len(self._gaps) > _GAPS_KEPT:
                del self._gaps[next(iter(self._gaps))]
        elif said.policy is not None and topic == JOBS:
            self._in_force.put(record, said.policy)
        else:
            self._output.reject(record, Reason.UNKNOWN_TYPE, "unexpected control record for this topic")

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

    @property
    def heard_at(self) -> float:
        """When the oldest of the last heartbeats was written, by their own stamps; seconds since the epoch."""
        return min(clock.stamp for clock in self.clocks.values())

    def open_by_state(self) -> dict[str, int]:
        """How many open runs have got how far: submitted, waiting (routed), running (started), ended."""
        found = dict.fromkeys(("submitted", "waiting", "running", "ended"), 0)
        for run in self.runs.values():
            found[_state(run.steps)] += 1
        return found

    def _schedule(self, run_id: str, run: Run, at: float) -> None:
        second = ceil(at)
        # It is taken from where it was due before, as most runs close long before their deadline.
        self._due.get(run.closes_at, {}).pop(run_id, None)
        # Runs that are due together share one integer.
        run.closes_at = second = self._seconds.setdefault(second, second)
        self._due.setdefault(second, {})[run_id] = None

    def tick(self, now: float) -> None:
        """Close what is due at `now` (seconds watched) and forget what was closed long ago."""
        self._in_force.tick()
        for second in sorted(second for second in self._due if second <= now):
            for run_id in sorted(self._due.pop(second)):  # an order that a restored stage has as well
                self._close(run_id, self.runs[run_id])
            self._seconds.pop(second, None)
        for run_id, due in [(run_id, due) for run_id, due in self._again_at.items() if due <= now]:
            self._judged_again(run_id, self._again_at.pop(run_id, due))
        self._answers.forget(now)
        horizon = now - self._catalog.closed_retention_seconds
        while self.closed:
            run_id, run = next(iter(self.closed.items()))
            if run.closed_at is not None and run.closed_at > horizon:
                break
            self._forget(run_id)

    def _settle_if_complete(self, run_id: str, run: Run, topic: str) -> None:
        """A run that lacks nothing closes after a short while, in which what else is on its way may come in."""
        tier = run.declared.tier if run.declared is not None else None
        runtime, has_result = evidence.effective_runtime(run), not run.steps & _NO_RESULT_BITS
        bits = self._in_force.policy.standards.bits(tier, runtime, has_result=has_result)
        if run.present & bits == bits:
            run.complete = True
            self._schedule(run_id, run, self.clocks[topic].watched + self._catalog.settle_seconds)

    def _required_fields(self, run: Run) -> tuple[str, ...]:
        tier = run.declared.tier if run.declared is not None else None
        runtime, has_result = evidence.effective_runtime(run), not run.steps & _NO_RESULT_BITS
        return self._in_force.policy.standards.fields(tier, runtime, has_result=has_result)

    def _close(self, run_id: str, run: Run) -> None:
        self._judge_pending(run)
        path = ledger.steps(run.history)
        run.answers = self._answers.pop(run_id)
        self._judge.ended(run_id, run, path)
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
        run.closed_at, run.own, run.pending, run.producers = self.time, None, None, ()
        self.closed[run_id] = run

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
        for run_id, due in self._again_at.items():
            self._judged_again(run_id, due)
        self._due, self._again_at = {}, {}
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
                self._again_at,
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
        self._in_force.restore(state.policy)
        self.clocks, self.runs, self.closed, self._gaps = state.clocks, state.runs, state.closed, state.gaps
        self.counters.clear()
        self.counters.update(state.counters)
        self._forgotten = Forgotten(state.forgotten)
        self._charges = Forgotten(state.charges, most=_CHARGES_KEPT)
        self._payers = {payer: number for number, payer in enumerate(state.payers, 1)}
        self._answers = Answers(state.answers)
        self._again_at = state.again_at
        self._due = {}
        for run_id, run in self.runs.items():
            self._schedule(run_id, run, run.closes_at)
            self._shared.again(run)
        for closed in self.closed.values():
            self._shared.again(closed)


def _with_earlier(
    earlier: tuple[tuple[float, Routing], ...], at: float, routing: Routing
) -> tuple[tuple[float, Routing], ...]:
    """Return where a run was sent before, with one more: of each place the first time."""
    places = {where: time for time, where in earlier}
    if routing not in places and len(places) >= _EARLIER_KEPT:
        routing = Routing()
    places[routing] = min(at, places.get(routing, at))
    return tuple([(time, where) for where, time in places.items()])


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
    except UNREADABLE as error:
        raise ValueError(f"the snapshot is damaged: {error}") from error


class _Header(Struct):
    version: int
