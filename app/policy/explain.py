"""Why a run breaks a rule, and what would change the answer: found by asking the rules again with other facts."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from app.core.catalog import RUNTIMES
from app.core.events import Consent
from app.core.facts import MATERIAL, Document
from app.core.outcomes import Violation
from app.core.policy import FAILED, Policy
from app.policy.check import Judged
from app.policy.syntax import inputs

#: What a run is and what it is for: changing it makes it another run, so such answers come last.
_IDENTITY: Final = frozenset({"run.workload", "run.purpose", "run.tier", "run.sensitivity", "run.runtime"})
_MOST_CHANGES: Final = 5
_FLAGS: Final = frozenset(
    {"encrypted", "tokenised", "canary", "explained", "acted_on", "admitted", "reviewed_first", "signed"}
)


class Change(Struct, frozen=True):
    """Facts under which the rule would not be broken, and the rules that would be broken instead."""

    facts: dict[str, Any]
    instead: list[str]


class Explanation(Struct, frozen=True):
    """A violation, the facts its rule looks at, and what would change the answer."""

    run: str
    rule: str
    mode: str
    title: str
    reason: str
    description: str
    remediation: str
    runbook: str
    owner: str
    control: str
    facts: dict[str, Any]
    changes: list[Change]


def explain(judged: Judged, policy: Policy) -> list[Explanation]:
    """Explain every rule that a run or manifest breaks."""
    return [_explained(judged, violation, policy) for violation in judged.violations]


def _explained(judged: Judged, violation: Violation, policy: Policy) -> Explanation:
    rule = policy.rules[violation.rule]
    document = msgspec.json.decode(judged.documents[violation.input_digest], type=Document)
    # That there was no decision is the fault of no rule in particular, so of no fact.
    read = inputs(policy.pack.modules, f"{rule.name}.rego") if rule is not FAILED else []
    plain = msgspec.to_builtins(document)
    return Explanation(
        run=judged.name,
        rule=rule.name,
        mode=rule.mode,
        title=rule.title,
        reason=violation.reason,
        description=rule.description,
        remediation=rule.remediation,
        runbook=rule.runbook,
        owner=rule.owner,
        control=rule.control,
        # What was in clear must not be written down once more.
        facts={path: _value(plain, path) for path in read if not path.startswith("clear")},
        changes=_changes(document, rule.name, read, policy),
    )


def _value(plain: Mapping[str, Any], path: str) -> Any:
    part, _, name = path.partition(".")
    return plain[part][name] if name else plain[part]


def _changes(document: Document, rule: str, read: list[str], policy: Policy) -> list[Change]:
    """Single changes of what the rule looks at after which it is not broken; those that break nothing else first."""
    before = _broken(document, policy)
    found = []
    for facts in _candidates(document, read, policy.pack.data):
        after = _broken(_with(document, facts), policy)
        if rule not in after:
            found.append(Change(facts, sorted(after - before)))
    found.sort(key=lambda change: (any(path in _IDENTITY for path in change.facts), len(change.instead)))
    return found[:_MOST_CHANGES]


def _broken(document: Document, policy: Policy) -> set[str]:
    return {breach.rule.name for breach in policy.decide(msgspec.json.encode(document)).breaches}


def _with(document: Document, facts: Mapping[str, Any]) -> Document:
    for path, value in facts.items():
        part, _, name = path.partition(".")
        changed = msgspec.structs.replace(getattr(document, part), **{name: value}) if name else value
        document = msgspec.structs.replace(document, **{part: changed})
    return document


def _candidates(document: Document, read: list[str], data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Other values of the facts that a rule looks at, from what the policy data knows."""
    plain = msgspec.to_builtins(document)
    for path in read:
        for value in _values(path, document, data):
            if msgspec.to_builtins(value) != _value(plain, path):
                yield {path: value}
    if any(path.startswith("routing.") for path in read):
        for name, endpoint in data["endpoints"].items():
            # An endpoint has one provider and one region: they change together.
            yield {
                "routing.endpoint": name,
                "routing.provider": endpoint["provider"],
                "routing.region": endpoint["region"],
            }


def _values(path: str, document: Document, data: Mapping[str, Any]) -> list[Any]:
    run = document.run
    scopes = tuple(filter(None, (run.purpose, "third-party-compute")))
    center = data["cost_centers"].get(run.cost_center or "", {})
    known: dict[str, Any] = {
        "run.workload": data["workloads"],
        "run.purpose": data["workloads"].get(run.workload or "", {}).get("purposes", ()),
        "run.tier": data["tiers"],
        "run.sensitivity": data["sensitivities"],
        "run.runtime": RUNTIMES,
        "run.cost_center": data["cost_centers"],
        "run.consent": [Consent(True, scopes)],
        "run.fallback": ["classical"],
        "run.material": [MATERIAL],
        "run.shots": [*data["shots"]["least"].values(), data["shots"]["most"]],
        "run.canary_share": data["canary_share"].values(),
        "run.estimated_cost_usd": center.values(),
        "outcome.calibration_age_hours": map(int, data["calibration_hours"].values()),
        "clear": [()],
    }
    return [True, False] if path.partition(".")[2] in _FLAGS else list(known.get(path, ()))
