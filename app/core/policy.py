"""The rules' verdict on what is known. The answer is total: undefined, error and time-out mean deny.

Evaluating Rego is not done here: an `Evaluate` takes the input document and gives the decision, both as JSON, because
the engine's object interface changes number types. What it is asked once it is not asked again: a verdict is a function
of the document, and equal facts make equal documents.
"""

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from app.core.evaluating import Evaluate, PolicyError
from app.core.exemptions import Exemption
from app.core.facts import Facts
from app.core.remembered import Remembered
from app.core.standards import STRICTEST, Standards
from app.unreadable import UNREADABLE

ROUTING_RULE: Final = "approved_endpoint"
_REMEMBERED: Final = 16_384
_MOST_REASON: Final = 500
#: A version is the time its bundle was built, in seconds since the epoch; clocks differ by less. One from further ahead
#: would be in force until then, whatever comes.
MOST_AHEAD_SECONDS: Final = 86_400

#: What a broken rule leads to: a violation that denies; a violation that is told and denies nothing; a note.
Mode = Literal["enforce", "warn", "dry_run"]
Severity = Literal["low", "medium", "high", "critical"]


class Rule(Struct, frozen=True, kw_only=True):
    """A rule's METADATA: what a violation of it says beside its reason."""

    name: str
    #: The part of the document it is about, of `facts.JUDGING`.
    judges: str
    title: str
    description: str
    severity: Severity
    owner: str
    #: The id of the control that the rule is for.
    control: str
    #: What whoever broke it can do.
    remediation: str
    runbook: str
    mode: Mode = "enforce"
    #: Whether admission goes on without the rule when it gives no answer.
    fail_open: bool = False


class Pack(NamedTuple):
    """Rules with their data."""

    #: File name -> Rego source.
    modules: Mapping[str, str]
    rules: Mapping[str, Rule]
    #: The document the rules see as `data`.
    data: Mapping[str, Any]
    #: Of the bundle they came in; a lower one does not follow a higher one. 0 of a directory.
    version: int = 0
    exemptions: tuple[Exemption, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        terms = [self.version, self.data, self.rules, self.exemptions]
        found = sha256(msgspec.json.encode(terms, order="deterministic"))
        for name, source in sorted(self.modules.items()):
            found.update(name.encode() + b"\0" + source.encode() + b"\0")
        return found.hexdigest()


class Breach(NamedTuple):
    """A rule that was broken, why, and with whose leave."""

    rule: Rule
    reason: str
    exemption: Exemption | None = None

    @property
    def mode(self) -> str:
        """What it leads to: the mode of the rule, or `exempt` where somebody gave leave."""
        return self.rule.mode if self.exemption is None else "exempt"

    @property
    def denies(self) -> bool:
        """Whether the rule is enforced and nobody gave leave."""
        return self.mode == "enforce"


class Verdict(NamedTuple):
    """What the policy says: the breaches, and the digest of the document it judged."""

    breaches: tuple[Breach, ...]
    input_digest: str

    @property
    def denies(self) -> bool:
        """Whether a rule that is enforced was broken."""
        return any(breach.denies for breach in self.breaches)

    @property
    def failed(self) -> bool:
        """Whether the rules gave no decision."""
        return any(breach.rule is FAILED for breach in self.breaches)


class _Denial(Struct, frozen=True, forbid_unknown_fields=True):
    rule: str
    reason: str


class _Decision(Struct, frozen=True, forbid_unknown_fields=True):
    allow: bool
    violations: list[_Denial]


FAILED: Final = Rule(
    name="policy_error",
    judges="",
    title="The policy gave no decision",
    description="The rules gave no answer, or none that says which rule was broken; that means deny.",
    severity="critical",
    owner="governance",
    control="QE-POL-0",
    remediation="Look at the reason: a rule is wrong, or takes too long. `qethics policy test` shows which.",
    runbook="docs/policy.md#policy_error",
)


class Policy:
    """A rule pack that judges.

    Parameters
    ----------
    pack
        The rules.
    evaluate
        How they are evaluated.
    bundle
        The signed bundle they came in; empty for those of a directory.
    labels
        What decides: program and engine, with their versions.
    key_id
        Of the key that the bundle is signed with.
    """

    def __init__(
        self,
        pack: Pack,
        evaluate: Evaluate,
        bundle: bytes = b"",
        labels: Mapping[str, str] | None = None,
        key_id: str = "",
    ) -> None:
        self.rules = {**pack.rules, FAILED.name: FAILED}
        self.pack = pack
        self.evaluate = evaluate
        self.bundle = bundle
        self.labels = dict(labels or {})
        self.key_id = key_id
        #: Why it is not trusted any more; None while it is. It judges nothing from then on.
        self.revoked: str | None = None
        self._exemptions: dict[str, list[Exemption]] = {}
        for exemption in pack.exemptions:
            self._exemptions.setdefault(exemption.rule, []).append(exemption)
        self._remembered: Remembered[Facts, Verdict] = Remembered(
            lambda facts: self.decide(msgspec.json.encode(facts.document())),
            _REMEMBERED,
            # A failure may pass.
            keep=lambda _, verdict: not verdict.failed,
        )

    @cached_property
    def digest(self) -> str:
        """Of the pack."""
        return self.pack.digest

    @cached_property
    def standards(self) -> Standards:
        """The floors, requirements and budgets that hold under it.

        The strictest where its data does not say: no bundle without them is taken, but one that an older version put in
        force may be in a checkpoint.
        """
        try:
            return Standards(self.pack.data)
        except ValueError:
            return STRICTEST

    @property
    def revision(self) -> str:
        """What names the pack in records: the beginning of its digest."""
        return self.digest[:16]

    def follows(self, other: "Policy") -> None:
        """Check that it may take the place of another.

        Raises
        ------
        PolicyError
            If it is older, or says something else under the same version.
        """
        version, before = self.pack.version, other.pack.version
        if version <= before:
            raise PolicyError(f"its version {version} is not above {before}, which is in force")

    def check_version(self, at: float) -> None:
        """Check that it was not built later than it comes, at `at` in seconds since the epoch.

        Raises
        ------
        PolicyError
            If its version is more than a day ahead.
        """
        if self.pack.version > at + MOST_AHEAD_SECONDS:
            raise PolicyError(f"its version {self.pack.version} is a time that is more than a day ahead")

    def judge(self, facts: Facts) -> Verdict:
        """Judge what is known."""
        return self._remembered[facts]

    def exempted(self, verdict: Verdict, run: object, routing: object, now: float) -> Verdict:
        """The verdict on a run and routing with the exemptions that hold at `now` (seconds since the epoch)."""
        if not self._exemptions or not verdict.breaches:
            return verdict
        breaches = tuple(self._excused(breach, run, routing, now) for breach in verdict.breaches)
        return verdict._replace(breaches=breaches)

    def _excused(self, breach: Breach, run: object, routing: object, now: float) -> Breach:
        if breach.rule is FAILED:
            return breach  # from having been judged nobody is exempted
        for exemption in self._exemptions.get(breach.rule.name, ()):
            if exemption.holds(now) and exemption.covers(run, routing):
                return breach._replace(exemption=exemption)
        return breach

    def decide(self, document: bytes) -> Verdict:
        """Judge an input document, without memory."""
        digest = sha256(document).hexdigest()
        try:
            decision = msgspec.json.decode(self.evaluate(document), type=_Decision)
        except (PolicyError, *UNREADABLE) as error:
            return Verdict((Breach(FAILED, f"no decision: {' '.join(str(error).split())[:_MOST_REASON]}"),), digest)
        breaches = tuple(
            Breach(self.rules.get(denial.rule, FAILED), denial.reason[:_MOST_REASON])
            for denial in sorted(decision.violations, key=lambda denial: (denial.rule, denial.reason))
        )
        if not breaches and not decision.allow:
            return Verdict((Breach(FAILED, "denied without a reason"),), digest)
        if breaches and decision.allow:
            return Verdict((*breaches, Breach(FAILED, "allowed in spite of violations")), digest)
        return Verdict(breaches, digest)

    # -- policies that are one policy ----------------------------------------------------------------------------------

    @property
    def current(self) -> "Policy":
        """Itself: rules of a directory are those the process was started with."""
        return self

    def load(self, bundle: bytes) -> "Policy":
        """Refuses: who goes by a directory has no key to verify a bundle with."""
        raise PolicyError("this worker goes by a policies directory; set QETHICS_POLICY_BUNDLE and QETHICS_POLICY_KEYS")

    def restore(self, bundle: bytes) -> "Policy":
        """Itself."""
        return self


class Policies(Protocol):
    """Where a stage has its policy from."""

    @property
    def current(self) -> Policy:
        """What is in force where none has been put in force yet."""

    def load(self, bundle: bytes) -> Policy:
        """The policy of a bundle that is to be put in force.

        Raises
        ------
        PolicyError
            If it cannot be trusted or used.
        """

    def restore(self, bundle: bytes) -> Policy:
        """The policy of a bundle that was in force; `current` if there was none (it is empty), or it is not trusted."""


def _without(document: bytes) -> bytes:
    raise PolicyError("there is no verified policy bundle")


#: What judges as long as there is no bundle: it denies.
NONE: Final = Policy(Pack({}, {}, {}, version=-1), _without)
