"""A run against the gate: what the gate answered, what the scheduler then did, and what is wrong with that.

All that was said of a run is put in the order in which it happened, answers of one instant before routings, and played
through one table. An answer only ever makes the gate stricter towards a run: a denial sticks, and to be allowed again
takes another run id. A routing is right if the gate had said so before, about the same facts.

| gate so far  | answer: allow  | answer: fallback_classical | answer: deny | routing                              |
|--------------|----------------|----------------------------|--------------|--------------------------------------|
| nobody asked | allowed        | classical path alone       | denied       | `unasked`, or `asked_late`           |
| allowed      | allowed        | classical path alone       | denied       | right if about these facts,          |
|              |                |                            |              | else `other_facts`                   |
| classical    | classical path | classical path alone       | denied       | right if classical and about this    |
|  path alone  |   alone        |                            |              | run, else `not_classical`,           |
|              |                |                            |              | `other_facts`                        |
| denied       | denied         | denied                     | denied       | `denied`                             |

A run that went on without being routed went somewhere unknown. Unknown is never taken for the better: a routing that
does not say its runtime is not classical, and an answer that does not say when it was given or what about allows
nothing and denies all the same.
"""

from collections.abc import Iterable
from struct import Struct as Packer
from typing import Final, Literal, NamedTuple

#: What the gate may answer about a run.
Answer = Literal["allow", "deny", "fallback_classical"]
#: What can be wrong with how a run went on.
Finding = Literal["unasked", "asked_late", "other_facts", "not_classical", "denied"]
ANSWERS: Final[tuple[Answer, ...]] = ("allow", "fallback_classical", "deny")
CLASSICAL: Final = "classical"
#: Of an answer that does not say what it was about.
UNKNOWN_FACTS: Final = bytes(8)
#: How far the clocks of gate and scheduler may be apart: an answer that much later still came before.
SKEW_SECONDS: Final = 1.0
_ENTRY: Final = Packer("<Bd8s8s")


class Given(NamedTuple):
    """An answer of the gate: when (seconds since the epoch), about which run and which routing (digests of facts)."""

    answer: Answer
    at: float
    run: bytes = UNKNOWN_FACTS
    routing: bytes = UNKNOWN_FACTS


class Sent(NamedTuple):
    """A routing of a run: when, to which runtime, and the digest of its facts."""

    at: float
    runtime: str | None
    facts: bytes


def packed(given: Given) -> bytes:
    """Return an answer in 25 bytes."""
    return _ENTRY.pack(ANSWERS.index(given.answer), given.at, given.run, given.routing)


def unpacked(entries: bytes) -> list[Given]:
    """Return the answers of what `packed` returned, one behind the other."""
    return [Given(ANSWERS[code], *rest) for code, *rest in _ENTRY.iter_unpack(entries)]


def strictest(given: Iterable[Given]) -> Answer | None:
    """Return the answer that sticks; None if nobody asked."""
    return max((one.answer for one in given), key=ANSWERS.index, default=None)


def findings(given: Iterable[Given], run: bytes, sent: Iterable[Sent]) -> tuple[Finding, ...]:
    """Return what is wrong with the routings of a run, by the table above; sorted.

    Parameters
    ----------
    given
        Every answer about the run, in any order.
    run
        The digest of what the run declares.
    sent
        Its routings, in any order.
    """
    answers = list(given)
    return tuple(sorted({found for one in sent if (found := _finding(answers, run, one)) is not None}))


def _finding(answers: list[Given], run: bytes, sent: Sent) -> Finding | None:
    before = [one for one in answers if _came_before(one, sent)]
    gate = strictest(before)
    if gate == "deny":
        return "denied"
    if gate is None:
        return "asked_late" if answers else "unasked"
    about = [one for one in before if one.answer == gate and one.run == run != UNKNOWN_FACTS]
    if gate == "fallback_classical":
        if sent.runtime != CLASSICAL:
            return "not_classical"
        return None if about else "other_facts"
    return None if any(one.routing == sent.facts != UNKNOWN_FACTS for one in about) else "other_facts"


def _came_before(given: Given, sent: Sent) -> bool:
    """Return whether an answer counts for a routing; a denial does in doubt, anything else does not."""
    if given.answer == "deny":
        return given.at - SKEW_SECONDS <= sent.at
    return 0 < given.at <= sent.at + SKEW_SECONDS
