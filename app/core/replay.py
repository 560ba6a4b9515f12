"""Decision records decided again: by the same rules, of the same input, with the same exemptions and directives."""

from datetime import datetime
from hashlib import sha256

import msgspec
from msgspec import Raw

from app.conventions import ROLLBACK_CANARY
from app.core import decisions, facts
from app.core.admission import CLASSICAL
from app.core.evaluating import PolicyError
from app.core.facts import Document, RoutingFacts
from app.core.obedience import Answer
from app.core.outcomes import DecisionRecord
from app.core.policy import FAILED, Policy, Verdict
from app.unreadable import UNREADABLE


def replayed(written: bytes, policy: Policy) -> bytes:
    """A decision record as it would be written today by the rules that decided it.

    Raises
    ------
    PolicyError
        If it is no record, other rules than those of `policy` decided it, its input is not what its digest says, or it
        was decided while rules gave no answer, which no replay repeats.
    """
    try:
        before = msgspec.json.decode(written, type=DecisionRecord)
        document = msgspec.json.decode(before.input, type=Document)
        at = datetime.fromisoformat(before.timestamp).timestamp()
    except UNREADABLE as error:
        raise PolicyError(f"no decision record: {error}") from error
    name = before.bundles.get(decisions.BUNDLE)
    if name is None or name.digest != policy.digest:
        raise PolicyError(f"it was decided by revision {name.revision if name else 'none'}, not {policy.revision}")
    if sha256(before.input).hexdigest() != before.input_digest:
        raise PolicyError("its input is not what its digest says")
    if before.failed_open:
        raise PolicyError(f"it was decided while {', '.join(before.failed_open)} gave no answer")
    if any(each.rule == FAILED.name for each in before.result.violations):
        raise PolicyError("it was decided while the rules gave no decision")
    verdict = _verdict(policy, document, at)
    again = msgspec.structs.replace(
        before,
        bundles=decisions.bundles(policy),
        labels=policy.labels,
        input=Raw(msgspec.json.encode(document)),
        input_digest=verdict.input_digest,
        result=decisions.result(verdict),
        masked=decisions.masked(document),
        exemptions=decisions.exemptions(verdict),
        answer=_answer(before, document, verdict, policy, at),
    )
    return msgspec.json.encode(again)


def _verdict(policy: Policy, document: Document, at: float) -> Verdict:
    return policy.exempted(policy.decide(msgspec.json.encode(document)), document.run, document.routing, at)


def _answer(before: DecisionRecord, document: Document, verdict: Verdict, policy: Policy, at: float) -> Answer:
    """As `app.core.admission.decide`, from what the record holds."""
    if not verdict.denies and not before.directives:
        return "allow"
    run = document.run
    if before.req_id is None or run.fallback != CLASSICAL or run.runtime == CLASSICAL:
        return "deny"
    if any(each.startswith(f"{ROLLBACK_CANARY}/") for each in before.directives):
        return "deny"
    classical = msgspec.structs.replace(
        document,
        judging=tuple(part for part in document.judging if part != facts.ROUTING),
        run=msgspec.structs.replace(run, runtime=CLASSICAL),
        routing=RoutingFacts(),
    )
    return "deny" if _verdict(policy, classical, at).denies else "fallback_classical"
