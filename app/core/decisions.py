"""Decision records: what was asked of the policy, by whom, what it said, and by which rules.

The fields are those of OPA's decision log (openpolicyagent.org, "Decision Logs") as far as they apply. What differs
from run to run for no reason that matters (the time an evaluation took) is not in it, so that who asks the same rules
again gets the same bytes (`app.core.replay`).
"""

from typing import Final

import msgspec
from msgspec import Raw

from app.core.evidence import instant
from app.core.facts import Document, Facts, RoutingFacts, RunFacts, suspects
from app.core.outcomes import BundleName, DecisionRecord, Denied, Result
from app.core.policy import Policy, Verdict

BUNDLE: Final = "qethics"


def record(
    facts: Facts,
    verdict: Verdict,
    policy: Policy,
    *,
    decision_id: str,
    run_id: str,
    at: float,
    trace_id: str | None = None,
    requested_by: str | None = None,
) -> DecisionRecord:
    """The record of a verdict in the stream.

    Parameters
    ----------
    facts, verdict, policy
        What was asked, what was said (with exemptions), and by which policy.
    decision_id, run_id, trace_id, requested_by
        What identifies it; `requested_by` is the producer of the event.
    at
        When, in seconds since the epoch.
    """
    document = facts.document()
    return DecisionRecord(
        decision_id=decision_id,
        run_id=run_id,
        trace_id=trace_id,
        timestamp=instant(at),
        requested_by=requested_by,
        labels=policy.labels,
        bundles=bundles(policy),
        input=Raw(msgspec.json.encode(document)),
        input_digest=verdict.input_digest,
        result=result(verdict),
        masked=masked(document),
        exemptions=exemptions(verdict),
        answer="deny" if verdict.denies else "allow",
    )


def bundles(policy: Policy) -> dict[str, BundleName]:
    """What names the rules of a policy."""
    return {BUNDLE: BundleName(policy.revision, policy.digest, policy.pack.version)}


def result(verdict: Verdict) -> Result:
    """What the rules said."""
    found = tuple([Denied(breach.rule.name, breach.reason) for breach in verdict.breaches])
    return Result(not found, found)


def masked(document: Document) -> tuple[str, ...]:
    """Pointers (RFC 6901, from the record) to what was masked in an input document."""
    parts: dict[str, RunFacts | RoutingFacts] = {"run": document.run, "routing": document.routing}
    found = [f"/input/{name}/{field}" for name, part in parts.items() for field in suspects(part)]
    return (*found, *(f"/input/clear/{index}/text" for index in range(len(document.clear))))


def exemptions(verdict: Verdict) -> tuple[str, ...]:
    """The exemptions in a verdict, by id."""
    return tuple(sorted({breach.exemption.id for breach in verdict.breaches if breach.exemption is not None}))
