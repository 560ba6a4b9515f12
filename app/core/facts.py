"""What the rules may look at, and how it follows from events. A verdict is a function of these values alone.

The input document is total: every field is always there, null where nobody said it, so that no rule is silent because
a field it reads is missing. `judging` says which of its parts are to be judged; the others are there to be looked at.
"""

import re
from collections.abc import Callable
from math import ceil
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, field
from xxhash import xxh3_64_digest

from app.core import events, ledger
from app.core.obedience import CLASSICAL, UNKNOWN_FACTS, Sent, findings, strictest, unpacked
from app.core.remembered import Remembered
from app.core.run import Declared, Derived, Routing, Run, declared_values

#: What there is to judge: a run and where it is sent, a decision it led to, how it ended, what was written in clear.
RUN: Final = "run"
ROUTING: Final = "routing"
DECISION: Final = "decision"
OUTCOME: Final = "outcome"
TEXT: Final = "text"
JUDGING: Final = (RUN, ROUTING, DECISION, OUTCOME, TEXT)


class RunFacts(Struct, frozen=True, gc=False, kw_only=True):
    """What a run declares. `material` names what it takes to make the run again, as far as it is there."""

    workload: str | None = None
    purpose: str | None = None
    tier: str | None = None
    sensitivity: str | None = None
    runtime: str | None = None
    submitter: str | None = None
    cost_center: str | None = None
    feature: str | None = None
    consent: events.Consent | None = None
    encrypted: bool | None = None
    shots: int | None = None
    canary: bool | None = None
    canary_share: float | None = None
    fallback: str | None = None
    deadline_seconds: float | None = None
    tokenised: bool = False
    material: tuple[str, ...] = ()
    #: Rounded up to the cent.
    estimated_cost_usd: float | None = None


class RoutingFacts(Struct, frozen=True, gc=False, kw_only=True):
    """Where a run is sent."""

    provider: str | None = None
    endpoint: str | None = None
    region: str | None = None
    backend: str | None = None
    runtime: str | None = None


class DecisionFacts(Struct, frozen=True, gc=False):
    """A decision: whether its explanation reaches the workload's floor, and whether it was acted on."""

    explained: bool | None = None
    acted_on: bool | None = None


class OutcomeFacts(Struct, frozen=True, gc=False, kw_only=True):
    """How a run ended: the steps it took, who answered, and whether a person looked before anybody acted."""

    routed: bool = False
    admitted: bool = False
    decided: bool = False
    acted_on: bool | None = None
    reviewed_first: bool = False
    #: Of the results, null where there were none; who is not named there is whom the run was sent to.
    provider: str | None = None
    backend: str | None = None
    signed: bool = False
    #: From the parameters' own date to the end of the run, rounded up.
    calibration_age_hours: int | None = None
    #: What the gate answered (allow, fallback_classical or deny), by its own records, the strictest; null if nobody
    #: asked.
    answer: str | None = None
    #: What is wrong with how the run went on, held against the gate's answers: `obedience.Finding`.
    gate: tuple[str, ...] = ()
    #: Whether the scheduler had rejected the run.
    rejected: bool = False
    completed: bool = False
    #: Whether anything was charged for it.
    billed: bool = False


class Clear(Struct, frozen=True, gc=False):
    """A text that may be somebody's personal data, and the field it stands in.

    Of the text there is its shape alone: x for a letter, 0 for a digit. So neither the rules nor a record of what they
    said holds the data, and a shape is what they judge.
    """

    field: str
    text: str


class Document(Struct, frozen=True, gc=False, kw_only=True):
    """The input document of the rules."""

    judging: tuple[str, ...]
    run: RunFacts = field(default_factory=RunFacts)
    routing: RoutingFacts = field(default_factory=RoutingFacts)
    decision: DecisionFacts = field(default_factory=DecisionFacts)
    outcome: OutcomeFacts = field(default_factory=OutcomeFacts)
    clear: tuple[Clear, ...] = ()


class Facts(Struct, frozen=True, gc=False, array_like=True):
    """What is asked of the policy: the document before it is written out, in values that runs share."""

    judging: tuple[str, ...]
    declared: Declared | None = None
    derived: Derived | None = None
    routing: Routing | None = None
    decision: DecisionFacts | None = None
    outcome: OutcomeFacts | None = None
    clear: tuple[Clear, ...] = ()

    def document(self) -> Document:
        """The input document."""
        return Document(
            judging=self.judging,
            run=_run_part(self.declared, self.derived),
            routing=RoutingFacts() if self.routing is None else _routing_part(self.routing),
            decision=self.decision or DecisionFacts(),
            outcome=self.outcome or OutcomeFacts(),
            clear=self.clear,
        )


_Part = TypeVar("_Part", RunFacts, RoutingFacts)


def _shown(part: _Part) -> _Part:
    """A part of the document with the shape alone of what may be personal data, as in `Clear`."""
    changed = {name: _shown_value(getattr(part, name)) for name in suspects(part)}
    return msgspec.structs.replace(part, **changed) if changed else part


def _run_part(declared: Declared | None, derived: Derived | None) -> RunFacts:
    """Return the part of the document about a run, as the rules see it."""
    return _shown(run_facts(declared, derived))


def _routing_part(routing: Routing) -> RoutingFacts:
    """Return the part of the document about a routing, as the rules see it."""
    return _shown(msgspec.convert(routing, RoutingFacts, from_attributes=True))


def suspects(part: RunFacts | RoutingFacts) -> list[str]:
    """The fields of a part of the document that may be personal data, or are the shape of some."""
    return [name for name in part.__struct_fields__ if any(map(_suspicious, _texts(getattr(part, name))))]


def _shown_value(value: str | events.Consent) -> str | events.Consent:
    if isinstance(value, str):
        return _shape(value)
    return msgspec.structs.replace(value, scopes=tuple(map(_shape, value.scopes)))


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a field."""
    if isinstance(value, str):
        return (value,)
    return value.scopes if isinstance(value, events.Consent) else value if isinstance(value, tuple) else ()


def run_facts(declared: Declared | None, derived: Derived | None) -> RunFacts:
    """The part of the document about a run; nothing is known of one that was never submitted."""
    values: dict[str, Any] = {}
    for part in (declared, derived):
        if part is not None:
            values |= {name: getattr(part, name) for name in part.__struct_fields__ if name in _OF_RUN}
    return RunFacts(**values)


_OF_RUN: Final = frozenset(RunFacts.__struct_fields__)

#: What it takes to make a run again.
MATERIAL: Final = ("code_digest", "circuit_digest", "inputs_digest", "environment_digest", "seed")


def declared(event: events.Submitted) -> Declared:
    """What a submission says that other runs say as well."""
    return Declared(*declared_values(event))


def derived(event: events.Submitted) -> Derived:
    """What follows from a submission."""
    cost = event.estimated_cost_usd
    return Derived(
        event.subject_token is not None,
        tuple([name for name in MATERIAL if getattr(event, name) is not None]),
        None if cost is None else ceil(cost * 100 - 1e-6) / 100,
    )


def facts_mark(part: RunFacts | RoutingFacts) -> bytes:
    """Return eight bytes that stand for what a run declares, or for where it is sent."""
    return xxh3_64_digest(msgspec.json.encode(part))


def _mark_of_run(known: tuple[Declared | None, Derived | None]) -> bytes:
    return facts_mark(_run_part(*known))


def _mark_of_routing(routing: Routing) -> bytes:
    return facts_mark(_routing_part(routing))


_RUN_MARKS: Final = Remembered(_mark_of_run, 16_384)
_ROUTING_MARKS: Final = Remembered(_mark_of_routing, 16_384)


def sent(run: Run, path: list[tuple[str, float]]) -> list[Sent]:
    """Return where a run went: its routings, or somewhere unknown if it went on without one.

    Parameters
    ----------
    run, path
        The run, and its steps in the order they happened (`ledger.steps`).
    """
    if run.routing is None:
        went_on = [(name, at) for name, at in path if name in _WENT_ON]
        if not went_on:
            return []
        name, at = went_on[0]
        return [Sent(at, CLASSICAL if name == "fell_back" else None, UNKNOWN_FACTS)]
    last = max(at for name, at in path if name == "routed")
    return [Sent(at, where.runtime, _ROUTING_MARKS[where]) for at, where in (*run.earlier, (last, run.routing))]


#: Steps by which a run got further than being asked for.
_WENT_ON: Final = frozenset({"routed", "started", "fell_back", "completed"})


def outcome(run: Run, path: list[tuple[str, float]]) -> OutcomeFacts:
    """Return how a run ended, as far as it is known: its steps (`ledger.steps`), and what the gate had answered."""
    answers = unpacked(run.answers)
    decision, origin = run.decision, run.results.origin if run.results is not None else None
    decided = decision is not None and decision.made
    age = None
    if origin is not None and origin.calibrated_at is not None:
        ends = [at for name, at in path if name in ledger.TERMINAL] or [at for _, at in path]
        age = ceil((ends[0] - origin.calibrated_at) / 3600) if ends else None
    return OutcomeFacts(
        routed=bool(run.steps & _ROUTED),
        admitted=bool(run.steps & _ADMITTED),
        decided=decided,
        acted_on=decision.acted_on if decision is not None and decided else None,
        reviewed_first=decision is not None
        and decided
        and decision.reviewed_at is not None
        and decision.reviewed_at <= decision.at,
        provider=_answered_by(run),
        backend=origin.backend if origin is not None else None,
        signed=run.results is not None and run.results.signed,
        calibration_age_hours=age,
        answer=strictest(answers),
        gate=findings(answers, _RUN_MARKS[run.declared, run.derived], sent(run, path)),
        rejected=bool(run.steps & _REJECTED),
        completed=bool(run.steps & _COMPLETED),
        billed=bool(run.charges),
    )


def _answered_by(run: Run) -> str | None:
    """Return who gave the results: whoever they name, else whom the run was sent to."""
    if run.results is None:
        return None
    return run.results.origin.provider or (run.routing.provider if run.routing is not None else None)


_ROUTED: Final = 1 << ledger.CODES[events.Routed]
_ADMITTED: Final = 1 << ledger.CODES[events.Admitted]
_COMPLETED: Final = 1 << ledger.CODES[events.Completed]
_REJECTED: Final = 1 << ledger.CODES[events.Rejected]

#: Job event -> its fields that hold words of a person or a program. Digests and codes are none.
TEXTS: Final[dict[type, tuple[str, ...]]] = {
    events.Submitted: ("workload", "purpose", "submitter", "cost_center", "feature", "subject_token", "consent"),
    events.Admitted: ("reasons",),
    events.Rejected: ("reasons",),
    events.Routed: ("provider", "endpoint", "region", "backend"),
    events.Failed: ("error",),
    events.TimedOut: ("error",),
    events.FellBack: ("reason",),
    events.RolledBack: ("reason",),
    events.DecisionMade: ("decision_ref", "outcome"),
    events.Review: ("reviewer", "verdict"),
    events.Cost: ("units",),
}

#: What personal data in clear text must contain. What has none of it need not be shown to the rules.
_SUSPICIOUS: Final = re.compile(r"@|[0-9]{3}-[0-9]{2}-[0-9]{4}|(?:[0-9][ -]?){13}")
#: Ranges and lengths that issuers of payment cards use (ISO/IEC 7812-1): Visa; Mastercard; American Express; Discover;
#: Diners Club; JCB; UnionPay; Maestro. Times in milliseconds begin with 1 and are none.
_ISSUED: Final = re.compile(
    r"4[0-9]{12}(?:[0-9]{3}){0,2}|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|3[47][0-9]{13}|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12}(?:[0-9]{3})?|3(?:0[0-5]|095|[689][0-9])[0-9]{11}"
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12}|62[0-9]{14,17}|(?:50|5[6-9]|6[0-9])[0-9]{11,17}"
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NUMBER: Final = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}")


def clear(event: events.JobEvent) -> tuple[Clear, ...]:
    """The texts of an event that may be personal data in clear.

    A run of 13 to 19 digits counts only where its check digit is that of a card number (ISO/IEC 7812-1, annex B):
    nine in ten of other long numbers are none.
    """
    names, values = _GET_TEXTS.get(type(event), _NO_TEXTS)
    found = list(map(_SUSPECTS.__getitem__, values(event)))
    if not any(found):
        return ()
    return tuple([Clear(name, text) for name, texts in zip(names, found, strict=True) for text in texts])


def clear_id(run_id: str) -> tuple[Clear, ...]:
    """Return the id of a run if it may be personal data in clear: every record about the run would repeat it."""
    return (Clear("run_id", _shape(run_id)),) if _suspicious(run_id) else ()


def _suspects(value: str | tuple[str, ...] | events.Consent | None) -> tuple[str, ...]:
    """The shapes of the texts of a field that may be personal data."""
    return tuple([_shape(text) for text in _texts(value) if _suspicious(text)])


_SHAPES: Final = ((re.compile("[A-Za-z]"), "x"), (re.compile("[0-9]"), "0"), (re.compile("[^\x00-\x7f]"), "?"))


def _shape(text: str) -> str:
    for pattern, stand_in in _SHAPES:
        text = pattern.sub(stand_in, text)
    return text


def _texts_of(*names: str) -> Callable[[Any], tuple[Any, ...]]:
    """Return what gets the values of these fields."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda event: tuple([getattr(event, name) for name in names])


_NO_TEXTS: Final = (), _texts_of()
_GET_TEXTS: Final = {kind: (names, _texts_of(*names)) for kind, names in TEXTS.items()}

#: Most events say what others said: one look at it is enough. What may be personal data is not kept.
_SUSPECTS: Final = Remembered(_suspects, 16_384, keep=lambda _, found: not found)


def _suspicious(text: str) -> bool:
    found = _SUSPICIOUS.search(text)
    if found is None or _UUID.fullmatch(text):
        return False
    if found[0] == "@" or len(found[0]) == len("000-00-0000"):
        return True
    return any(_is_card(number[0]) for number in _NUMBER.finditer(text)) or "@" in text


def _is_card(text: str) -> bool:
    """Whether the digits are of the form of a card number: an issuer's range and length, and the check digit."""
    number = re.sub("[ -]", "", text)
    if not _ISSUED.fullmatch(number):
        return False
    digits = [int(character) for character in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
