"""Admission: may this run go ahead? The answer is allow, deny, or fall back to the classical path.

It follows from the rules on what the run declares and where it is to go, with exemptions, and from the directives in
force. Deny is what is left when there is no answer.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct

from app.conventions import DISABLE_ROUTING, FALLBACK_CLASSICAL, FREEZE_OFFLOAD, ROLLBACK_CANARY
from app.core import decisions, events, facts
from app.core.evaluating import PolicyError
from app.core.evidence import instant
from app.core.facts import Facts
from app.core.identity import outcome_id
from app.core.obedience import Answer
from app.core.orders import active, is_of
from app.core.outcomes import DecisionRecord, Directive
from app.core.policy import FAILED, Breach, Policy, Verdict
from app.core.run import Declared, Routing, routing_values
from app.unreadable import UNREADABLE

CLASSICAL: Final = "classical"


def _own(event: type, name: str) -> Any:
    """A type with the fields that an event has of its own, beyond those that every event has."""
    common = {field.name for field in msgspec.structs.fields(events.Event)}
    fields = [
        (field.name, field.type, field.default) for field in msgspec.structs.fields(event) if field.name not in common
    ]
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True, forbid_unknown_fields=True)


DeclaredRun: Final = _own(events.Submitted, "DeclaredRun")
PlannedRouting: Final = _own(events.Routed, "PlannedRouting")


class AdmissionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question whether a run may go ahead.

    Parameters
    ----------
    request_id, run_id
        Of the question, and of the run.
    run
        What the run declares: the fields of `submitted`.
    routing
        Where it is to go: the fields of `routed`. Without it, only the run is judged.
    requested_by
        Who asks.
    dry_run
        Whether the answer is to be given and nothing to be written.
    """

    request_id: events.Id
    run_id: events.Id
    run: DeclaredRun  # type: ignore[valid-type]
    routing: PlannedRouting | None = None  # type: ignore[valid-type]
    requested_by: events.Id | None = None
    dry_run: bool = False


class Reason(Struct, frozen=True, kw_only=True):
    """A rule that is broken, what that leads to, and what can be done about it."""

    rule: str
    reason: str
    mode: str
    severity: str
    remediation: str
    runbook: str
    exemption: str | None = None


class AdmissionRefusal(Struct, frozen=True, kw_only=True, tag_field="kind", tag="refusal"):
    """What is said instead of an answer, and means deny."""

    request_id: str | None = None
    run_id: str | None = None
    answer: Literal["deny"] = "deny"
    error: str


class AdmissionResponse(Struct, frozen=True, kw_only=True, tag_field="kind", tag="answer"):
    """The answer. `directives` are those that were obeyed, `failed_open` the rules admission went on without."""

    request_id: str
    run_id: str
    decision_id: str
    answer: Answer
    reasons: tuple[Reason, ...]
    directives: tuple[Directive, ...] = ()
    failed_open: tuple[str, ...] = ()
    policy_revision: str
    bundle_digest: str
    at: str
    dry_run: bool


class Asked(NamedTuple):
    """A request as the policy sees it: as it is, and as it would be on the classical path, if it has one."""

    request: AdmissionRequest
    facts: Facts
    classical: Facts | None
    trace_id: str | None = None


class Decided(NamedTuple):
    """The answer, and its record."""

    response: AdmissionResponse
    record: DecisionRecord


#: The value of a rule, by its path, on an input document. Raises `PolicyError`.
Ask = Callable[[str, bytes], bytes]


def asked(request: AdmissionRequest, trace_id: str | None = None) -> Asked:
    """What a request asks of the policy; `trace_id` is that of the trace it is part of."""
    values = msgspec.structs.asdict(request.run)
    submitted = events.Submitted(
        event_id=request.request_id, run_id=request.run_id, at=_NO_TIME, producer="admission", seq=0, **values
    )
    declared, derived, clear = facts.declared(submitted), facts.derived(submitted), facts.clear(submitted)
    routing = None
    if request.routing is not None:
        planned_values = msgspec.structs.asdict(request.routing)
        routed = events.Routed(
            event_id=request.request_id, run_id="", at=_NO_TIME, producer="admission", seq=0, **planned_values
        )
        routing, clear = Routing(*routing_values(routed)), (*clear, *facts.clear(routed))
    judging = (facts.RUN, *([facts.ROUTING] if routing is not None else []), *([facts.TEXT] if clear else []))
    planned = Facts(judging, declared, derived, routing, clear=clear)
    if declared.fallback != CLASSICAL or declared.runtime == CLASSICAL:
        return Asked(request, planned, None, trace_id)
    alone = msgspec.structs.replace(declared, runtime=CLASSICAL)
    judging = tuple(part for part in judging if part != facts.ROUTING)
    return Asked(request, planned, Facts(judging, alone, derived, clear=clear), trace_id)


_NO_TIME: Final = datetime.fromtimestamp(0, UTC)


def obeyed(
    run: Declared, routing: Routing | None, directives: Iterable[Directive], data: Mapping[str, Any]
) -> list[Directive]:
    """Return the directives that a run must obey on its way, by their order.

    What a request leaves out may be what a directive is about, and is taken for it: leaving out where a run goes, or
    who pays for it, hides no directive. A run that declares the classical path and names no routing takes that path.

    Parameters
    ----------
    run, routing
        What is declared, and where it is to go.
    directives
        Those that are active.
    data
        What the rules know: which workloads and cost centers there are.
    """
    sent = routing or Routing()
    is_classical = run.runtime == CLASSICAL and (routing is None or routing.runtime == CLASSICAL)

    def concerns(order: Directive) -> bool:
        if order.directive == DISABLE_ROUTING:
            return order.target == sent.endpoint or (sent.endpoint is None and not is_classical)
        if order.directive == ROLLBACK_CANARY:
            return bool(run.canary) and (run.workload is None or is_of(order.target, run.workload, sent.backend))
        return not is_classical and _concerns_quantum(order, run, sent, data)

    return [each for each in directives if concerns(each)]


def _concerns_quantum(order: Directive, run: Declared, sent: Routing, data: Mapping[str, Any]) -> bool:
    """Return whether a directive about quantum computers is about a run that goes to one, as far as it says."""
    if order.directive == FREEZE_OFFLOAD:
        return order.target == run.cost_center or run.cost_center not in data.get("cost_centers", {})
    if order.directive != FALLBACK_CLASSICAL:
        return False
    if order.target in {sent.backend, sent.endpoint} or is_of(order.target, run.workload, sent.backend):
        return True
    others = {*data.get("workloads", {})} - {run.workload}
    return None in {run.workload, sent.endpoint, sent.backend} and order.target.partition("/")[0] not in others


def judged(policy: Policy, ask: Ask, asked: Facts, now: float) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on what is asked, with exemptions, and the rules that gave no answer and may be gone on without.

    Where the rules together give no decision, each is asked by itself: one that may fail open is left out, any other
    that does not answer denies.
    """
    verdict = policy.judge(asked)
    failed_open: tuple[str, ...] = ()
    if verdict.failed and any(rule.fail_open for rule in policy.pack.rules.values()):
        verdict, failed_open = _apart(policy, ask, asked, verdict)
    return policy.exempted(verdict, asked.declared, asked.routing, now), failed_open


def _apart(policy: Policy, ask: Ask, asked: Facts, together: Verdict) -> tuple[Verdict, tuple[str, ...]]:
    document = msgspec.json.encode(asked.document())
    breaches: list[Breach] = []
    failed_open: list[str] = []
    for name, rule in sorted(policy.pack.rules.items()):
        if rule.judges not in asked.judging:
            continue
        try:
            said = ask(f"data.qethics.rules.{rule.judges}.{name}.deny", document)
            reasons = msgspec.json.decode(said, type=list[str])
        except (PolicyError, *UNREADABLE) as error:
            if rule.fail_open:
                failed_open.append(name)
            else:
                breaches.append(Breach(FAILED, f"{name} gave no answer: {error}"))
        else:
            breaches += [Breach(rule, reason) for reason in sorted(reasons)]
    return Verdict(tuple(breaches), together.input_digest), tuple(failed_open)


def decide(question: Asked, policy: Policy, ask: Ask, directives: Iterable[Directive], now: float) -> Decided:
    """Answer a request.

    Parameters
    ----------
    question
        What is asked.
    policy, ask
        The rules, and how one of them is asked by itself.
    directives
        Those that are known; what has expired is not obeyed.
    now
        Seconds since the epoch.
    """
    planned = question.facts
    verdict, failed_open = judged(policy, ask, planned, now)
    run = planned.declared
    known = policy.pack.data
    orders = obeyed(run, planned.routing, active(directives, now), known) if run is not None else []
    answer: Answer = "allow"
    if verdict.denies or orders:
        answer = "deny"
        classical = question.classical
        alone = classical.declared if classical is not None else None
        if classical is not None and alone is not None and not obeyed(alone, None, orders, known):
            instead, more = judged(policy, ask, classical, now)
            answer = "deny" if instead.denies else "fallback_classical"
            failed_open = tuple(sorted({*failed_open, *more}))
    return _decided(question, policy, verdict, answer, orders, failed_open, now)


def denied(question: Asked, policy: Policy, why: str, now: float) -> Decided:
    """Deny a request for which there is no decision."""
    verdict = Verdict((Breach(FAILED, why),), "")
    return _decided(question, policy, verdict, "deny", [], (), now)


def _decided(
    question: Asked,
    policy: Policy,
    verdict: Verdict,
    answer: Answer,
    orders: list[Directive],
    failed_open: tuple[str, ...],
    now: float,
) -> Decided:
    request = question.request
    document = question.facts.document()
    encoded = msgspec.json.encode(document)
    names = tuple(f"{order.directive}/{order.target}" for order in orders)
    digest = sha256(encoded).hexdigest()
    record = DecisionRecord(
        # The same question with the same answer is the same decision, however often it is asked.
        decision_id=outcome_id(
            "admission", request.request_id, request.run_id, digest, policy.revision, answer, *names
        ),
        run_id=request.run_id,
        req_id=request.request_id,
        trace_id=question.trace_id,
        timestamp=instant(now),
        requested_by=request.requested_by,
        labels=policy.labels,
        bundles=decisions.bundles(policy),
        input=Raw(encoded),
        input_digest=digest,
        result=decisions.result(verdict),
        masked=decisions.masked(document),
        exemptions=decisions.exemptions(verdict),
        answer=answer,
        directives=names,
        failed_open=failed_open,
    )
    response = AdmissionResponse(
        request_id=request.request_id,
        run_id=request.run_id,
        decision_id=record.decision_id,
        answer=answer,
        reasons=tuple(map(_reason, verdict.breaches)),
        directives=tuple(orders),
        failed_open=failed_open,
        policy_revision=policy.revision,
        bundle_digest=policy.digest,
        at=record.timestamp,
        dry_run=request.dry_run,
    )
    return Decided(response, record)


def _reason(breach: Breach) -> Reason:
    rule = breach.rule
    return Reason(
        rule=rule.name,
        reason=breach.reason,
        mode=breach.mode,
        severity=rule.severity,
        remediation=rule.remediation,
        runbook=rule.runbook,
        exemption=breach.exemption.id if breach.exemption is not None else None,
    )
