"""Rego rules, evaluated in process by regorus. The answer is total: undefined and error mean deny.

The engine is bound to the thread that made it, holds the interpreter lock while it evaluates and can change number
types through its object interface; so a `Policy` is made and used on one thread, its rules are bounded, and values go
in and out as JSON.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
import regorus
from msgspec import Struct

from app.core.remembered import Remembered
from app.core.run import Declared, Routing

DECISION: Final = "data.qethics.decision"
ROUTING_RULE: Final = "approved_endpoint"
_REMEMBERED: Final = 16_384


class Rule(Struct, frozen=True, kw_only=True):
    """A rule's METADATA: what a violation of it says beside its reason."""

    name: str
    title: str
    severity: str
    owner: str
    control: str


class Breach(NamedTuple):
    """A rule that was broken, and why."""

    rule: Rule
    reason: str


class Verdict(NamedTuple):
    """What the policy says of one routing: the breaches, and the digest of the input it judged."""

    breaches: tuple[Breach, ...]
    input_digest: str


class _Denial(Struct, frozen=True):
    rule: str
    reason: str


class _Decision(Struct, frozen=True):
    allow: bool
    violations: list[_Denial]


_FAILED: Final = Rule(
    name="policy_error",
    title="The policy gave no decision",
    severity="critical",
    owner="governance",
    control="fail-closed",
)

#: What the rules may look at. The answer is a function of these alone, so equal projections share one evaluation.
_RUN_FACTS: Final = ("workload", "purpose", "tier", "sensitivity", "runtime", "encrypted")
_ROUTING_FACTS: Final = ("provider", "endpoint", "region", "backend", "runtime")


class Policy:
    """A rule pack with its data, ready to judge.

    Parameters
    ----------
    modules
        File name -> Rego source.
    rules
        Rule name -> its METADATA.
    data
        The document the rules see as `data`, e.g. the approved endpoints.

    Raises
    ------
    RuntimeError
        If a module does not parse.
    """

    def __init__(self, modules: Mapping[str, str], rules: Mapping[str, Rule], data: Mapping[str, Any]) -> None:
        self.rules = dict(rules)
        encoded = msgspec.json.encode(data, order="deterministic")
        digest = sha256(encoded)
        self._engine = regorus.Engine()
        for name, source in sorted(modules.items()):
            self._engine.add_policy(name, source)
            digest.update(name.encode() + b"\0" + source.encode() + b"\0")
        self._engine.add_data_json(encoded.decode())
        #: Names the rules and the data together; every violation carries it.
        self.revision = digest.hexdigest()[:16]
        self._remembered: Remembered[tuple[Declared | None, Routing], Verdict] = Remembered(
            lambda facts: self._evaluate(*facts), _REMEMBERED
        )

    def judge(self, declared: Declared | None, routing: Routing) -> Verdict:
        """Judge sending a run somewhere.

        Parameters
        ----------
        declared
            What the run declared, or None where it was never submitted: every fact about it is then unknown, and the
            rules must not take unknown for good.
        routing
            Where it was sent.
        """
        return self._remembered[declared, routing]

    def _evaluate(self, declared: Declared | None, routing: Routing) -> Verdict:
        document = msgspec.json.encode(
            {
                "run": {name: getattr(declared, name, None) for name in _RUN_FACTS},
                "routing": {name: getattr(routing, name) for name in _ROUTING_FACTS},
            },
            order="deterministic",
        )
        digest = sha256(document).hexdigest()
        try:
            self._engine.set_input_json(document.decode())
            decision = msgspec.json.decode(self._engine.eval_rule_as_json(DECISION), type=_Decision)
        except (RuntimeError, msgspec.MsgspecError) as error:
            return Verdict((Breach(_FAILED, f"no decision: {str(error)[:200]}"),), digest)
        breaches = tuple(
            Breach(self.rules.get(denial.rule, _FAILED), denial.reason)
            for denial in sorted(decision.violations, key=lambda denial: (denial.rule, denial.reason))
        )
        if not breaches and not decision.allow:
            return Verdict((Breach(_FAILED, "denied without a reason"),), digest)
        return Verdict(breaches, digest)
