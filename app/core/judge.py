"""Judgements of single events: each a function of the event and of what its run declared, whenever either came."""

from collections.abc import Callable
from typing import Any, Final

from app.conventions import JOBS
from app.core import decisions, events, evidence, facts, ledger
from app.core.catalog import ANY, UNKNOWN, Catalog
from app.core.facts import DecisionFacts, Facts
from app.core.identity import event_mark, fingerprint8, outcome_id
from app.core.in_force import InForce
from app.core.outcomes import CANARY, Broken, Observation, Spending, Unauthorized, Violation
from app.core.output import Output
from app.core.policy import ROUTING_RULE, Breach, Verdict
from app.core.results import stream_key
from app.core.run import SEEN_BYTES, Declared, Payer, Routing, Run, routing_values
from app.core.trace import trace_id, traceparent


class Judge:
    """Counts M3, M5, M6 and spending, and finds violations.

    Parameters
    ----------
    catalog, in_force
        What it judges by.
    output
        Where its conclusions go.
    """

    def __init__(self, catalog: Catalog, in_force: InForce, output: Output) -> None:
        self._catalog = catalog
        self._in_force = in_force
        self._output = output
        self._counters = output.counters

    def judge(self, event: Any, subject: Run, offset: int, place: int | None = None) -> None:
        """Judge an event; one of a type that is not in `JUDGED` has no judgement.

        Parameters
        ----------
        event
            A job event.
        subject
            What is known of its run.
        offset
            The event's own.
        place
            The offset of the record that is being taken in, where it is another: an event that waited for its run's
            declaration is handed on to the streams in the declaration's place, as their reader would take an offset
            below what it has seen for a repeat.
        """
        of_type = _JUDGEMENTS.get(type(event))
        if of_type is not None:
            of_type(self, event, subject, offset, offset if place is None else place)

    def read(self, event: events.JobEvent, subject: Run, offset: int) -> None:
        """Judge the texts of an event, which needs no declaration."""
        found = facts.clear(event)
        if not subject.seen or len(subject.seen) == SEEN_BYTES:  # its id is looked at with the first of its events
            found += facts.clear_id(event.run_id)
        if found:
            asked = Facts((facts.TEXT,), clear=found)
            self._judged(asked, subject, event.run_id, event.at.timestamp(), offset, event.producer)

    def ended(self, run_id: str, run: Run, path: list[tuple[str, float]], again: object = None) -> None:
        """Judge how a run ended, by its steps and what the gate had answered.

        What went on without being routed is judged as a run as well. Where that is judged `again`, because more of the
        run came after it was closed, what was found before is not told twice.
        """
        if not run.steps & _WENT_ON_BITS and run.decision is None:
            return  # refused, given up, or nothing but results: it influenced nothing
        asked = Facts(
            (facts.OUTCOME,) if run.ruled else (facts.RUN, facts.OUTCOME),
            run.declared,
            run.derived,
            run.routing,
            outcome=facts.outcome(run, path),
        )
        at = path[-1][1] if path else run.decision.at if run.decision is not None else 0.0
        self._judged(asked, run, run_id, at, None, None, () if again is None else (again,))

    def _routing(self, event: events.Routed, subject: Run, offset: int, place: int) -> None:
        judging = (facts.ROUTING,) if subject.ruled else (facts.RUN, facts.ROUTING)
        asked = Facts(judging, subject.declared, subject.derived, Routing(*routing_values(event)))
        verdict = self._judged(asked, subject, event.run_id, event.at.timestamp(), offset, event.producer)
        broken = next((breach for breach in verdict.breaches if breach.rule.name == ROUTING_RULE), None)
        provider = self._catalog.provider(event.provider)
        self._counters.judge("M6", broken is None or broken.exemption is not None, provider)
        if broken is not None and broken.denies and subject.declared is not None:
            # As with decisions: what a tick judges has no place in the other log, and is counted, not handed on.
            endpoint, at = self._place(event, subject.declared), event.at.timestamp()
            handed_on = Unauthorized(place, at, event.run_id, provider, endpoint, broken.reason)
            self._output.pack(endpoint).unauthorized.append(handed_on)

    def _place(self, event: events.Routed, declared: Declared) -> str:
        """Return the endpoint that a run may not be sent to.

        One that takes such data, named with a wrong provider or region, is not the one that is approved: where the run
        went is unknown, and whoever goes to the approved one does no wrong.
        """
        approved = self._in_force.policy.pack.data.get("endpoints", {}).get(event.endpoint)
        if approved is not None and declared.sensitivity in approved["sensitivities"]:
            return UNKNOWN
        return event.endpoint or UNKNOWN

    def _judged(
        self,
        asked: Facts,
        subject: Run,
        run_id: str,
        at: float,
        offset: int | None,
        producer: str | None,
        again: tuple[object, ...] = (),
    ) -> Verdict:
        """Judge facts about a run and write down what follows; how it ended has no `offset` and no `producer`."""
        verdict = self._in_force.judge(asked)
        if facts.OUTCOME in asked.judging:
            verdict = _not_told(verdict, subject)
        subject.ruled = subject.ruled or facts.RUN in asked.judging
        if not subject.judged:
            subject.judged = True
            self._counters["valid", "M5"] += 1
        if verdict.denies and not subject.violated:
            subject.violated = True
            self._counters["bad", "M5"] += 1
        # Job events alone are judged, if need be at a tick that came with the other topic.
        cause = (run_id,) if offset is None else (JOBS, self._output.batch.partition, offset)
        if verdict.breaches:
            self._record(asked, verdict, subject, run_id, (*cause, *again), producer)
        for breach in verdict.breaches:
            rule = breach.rule
            if not breach.denies:
                self._counters["tolerated", rule.name, breach.mode] += 1
            violation_id = outcome_id("violation", *cause, rule.name, breach.reason)
            if breach.denies:
                mark = fingerprint8(violation_id)
                broken = Broken(mark, at, run_id, rule.name, rule.severity, rule.owner, breach.reason)
                self._output.pack(rule.name).broken.append(broken)
            revision, trace = self._in_force.policy.revision, traceparent(subject.trace)
            self._output.outcomes.violations.append(
                violation(breach, verdict, revision, violation_id, run_id, evidence.instant(at), trace)
            )
        return verdict

    def _record(
        self,
        asked: Facts,
        verdict: Verdict,
        subject: Run,
        run_id: str,
        cause: tuple[object, ...],
        producer: str | None,
    ) -> None:
        self._output.outcomes.decisions.append(
            decisions.record(
                asked,
                verdict,
                self._in_force.policy,
                decision_id=outcome_id("decision", *cause, *asked.judging),
                run_id=run_id,
                at=self._in_force.now,
                trace_id=trace_id(subject.trace),
                requested_by=producer,
            )
        )

    def _decision(self, event: events.DecisionMade, subject: Run, offset: int, place: int) -> None:
        declared = subject.declared
        floor = self._in_force.policy.standards.floor(declared.workload if declared else None)
        explained = event.explanation is not None and event.explanation.score >= floor
        self._counters.judge("M3", explained, (declared.tier if declared else None) or UNKNOWN)
        made = DecisionFacts(explained, event.acted_on)
        asked = Facts((facts.DECISION,), declared, subject.derived, decision=made)
        self._judged(asked, subject, event.run_id, event.at.timestamp(), offset, event.producer)
        if declared is None:
            return  # judged by a tick, whose place against the other topic is not fixed
        workload = self._catalog.workloads.get(declared.workload or "")
        favourable = workload.favourable if workload else None
        self._observe(
            event,
            self._catalog.workload(declared.workload),
            bool(declared.canary),
            place,
            explanation_score=event.explanation.score if event.explanation is not None else None,
            outcome=event.outcome,
            decision=None if favourable is None or event.outcome is None else float(event.outcome == favourable),
        )

    def _observe(self, event: events.JobEvent, workload: str, canary: bool, place: int, **signals: Any) -> None:
        """Hand on what a job event says to the streams of its workload."""
        key, release = stream_key(workload, ANY), CANARY if canary else None
        self._output.observe(
            key, Observation(place, event.at.timestamp(), event.run_id, None, canary=release, **signals)
        )

    def payer(self, declared: Declared | None) -> Payer | None:
        """Who pays for a run, and for what; None if that is not known."""
        if declared is None:
            return None
        center = self._in_force.policy.standards.cost_center(declared.cost_center)
        workload = self._catalog.workload(declared.workload)
        return Payer(center, declared.runtime or UNKNOWN, workload, bool(declared.canary))

    def charge(self, event: events.Cost, payer: Payer | None, place: int) -> None:
        """Count a charge, and hand it on if it is known who pays.

        Where that is not known a tick has judged it, whose place against the other topic is not fixed.
        """
        center, runtime = (payer.cost_center, payer.runtime) if payer else (UNKNOWN, UNKNOWN)
        microdollars = round(event.amount_usd * 1e6)
        # Charges and refunds apart: a counter must never fall.
        self._counters["spend" if microdollars >= 0 else "refund", center, runtime] += abs(microdollars)
        if payer is None:
            return
        at = (event.billed_at or event.at).timestamp()
        budget_usd = self._in_force.policy.standards.budgets.get(center)
        self._output.pack(center).spending.append(Spending(place, at, center, runtime, microdollars, budget_usd))
        if event.amount_usd > 0 and "cost_usd" in self._catalog.watches:
            self._observe(event, payer.workload, payer.canary, place, cost_usd=event.amount_usd)

    def _cost(self, event: events.Cost, subject: Run, offset: int, place: int) -> None:
        subject.charges += event_mark(JOBS, event.producer, event.event_id)
        self.charge(event, self.payer(subject.declared), place)

    def _fallback(self, event: events.FellBack, subject: Run, offset: int, place: int) -> None:
        self._counters["fallback",] += 1

    def _review(self, event: events.Review, subject: Run, offset: int, place: int) -> None:
        self._counters["review",] += 1


def _not_told(verdict: Verdict, run: Run) -> Verdict:
    """Return a verdict on how a run ended without what was told of it before, and note the rest as told."""
    fresh = []
    for breach in verdict.breaches:
        mark = fingerprint8(outcome_id("breach", breach.rule.name, breach.reason))
        if mark not in run.told:
            run.told += mark
            fresh.append(breach)
    return verdict._replace(breaches=tuple(fresh))


def violation(
    breach: Breach,
    verdict: Verdict,
    revision: str,
    violation_id: str,
    run_id: str,
    at: str,
    trace: str | None = None,
) -> Violation:
    """What is said of a broken rule.

    Parameters
    ----------
    breach, verdict, revision
        The rule and why, the verdict it is part of, and the revision of the rules that gave it.
    violation_id, run_id, at
        The id, of which run it is, and when the rule was broken (RFC 3339).
    trace
        The `traceparent` of the run.
    """
    rule = breach.rule
    return Violation(
        violation_id=violation_id,
        run_id=run_id,
        rule=rule.name,
        mode=breach.mode,
        severity=rule.severity,
        owner=rule.owner,
        control=rule.control,
        reason=breach.reason,
        policy_revision=revision,
        input_digest=verdict.input_digest,
        at=at,
        exemption=breach.exemption.id if breach.exemption is not None else None,
        traceparent=trace,
    )


#: Steps by which a run got further than being asked for.
_WENT_ON_BITS: Final = sum(
    1 << ledger.NAMES.index(name) for name in ("routed", "started", "fell_back", "completed", "rolled_back")
)

_JUDGEMENTS: Final[dict[type, Callable[[Judge, Any, Run, int, int], None]]] = {
    events.Routed: Judge._routing,
    events.DecisionMade: Judge._decision,
    events.Cost: Judge._cost,
    events.FellBack: Judge._fallback,
    events.Review: Judge._review,
}

#: The types of events that are judged.
JUDGED: Final = frozenset(_JUDGEMENTS)
