"""The states of a run and every legal change between them, as one table.

Events of a run arrive in any order, so legality is judged once, when the run closes, over the steps in the order in
which they happened (`at`), not in which they arrived. An illegal change is counted and kept in the evidence.
"""

from struct import Struct as Packer
from typing import Final

from app.core import events

#: Job events that are steps of a run, in the order of a run's life. The index is the step's code in the history.
STEPS: Final = (
    events.Submitted,
    events.Admitted,
    events.Rejected,
    events.Routed,
    events.Started,
    events.FellBack,
    events.Completed,
    events.Failed,
    events.TimedOut,
    events.RolledBack,
)
NAMES: Final = tuple(str(step.__struct_config__.tag) for step in STEPS)
CODES: Final = {step: code for code, step in enumerate(STEPS)}

TERMINAL: Final = frozenset({"rejected", "completed", "failed", "timed_out", "rolled_back"})
TERMINAL_BITS: Final = sum(1 << NAMES.index(name) for name in TERMINAL)

#: state -> the states that may follow it. "" is a run nobody has heard of.
TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    "": frozenset({"submitted"}),
    "submitted": frozenset({"admitted", "rejected", "failed", "timed_out"}),
    "admitted": frozenset({"routed", "fell_back", "failed", "timed_out"}),
    "rejected": frozenset(),
    "routed": frozenset({"started", "routed", "fell_back", "failed", "timed_out"}),
    "started": frozenset({"completed", "failed", "timed_out", "fell_back"}),
    "fell_back": frozenset({"routed", "started", "completed", "failed", "timed_out"}),
    "completed": frozenset({"rolled_back"}),
    "failed": frozenset({"fell_back", "rolled_back"}),
    "timed_out": frozenset({"fell_back", "rolled_back"}),
    "rolled_back": frozenset(),
}

_ENTRY: Final = Packer("<Bd")


def entry(code: int, at: float) -> bytes:
    """One step of a history: its code and its time, in seconds since the epoch."""
    return _ENTRY.pack(code, at)


def steps(history: bytes) -> list[tuple[str, float]]:
    """The steps of a history in the order they happened; steps of one instant in the order of a run's life."""
    return [(NAMES[code], at) for at, code in sorted((at, code) for code, at in _ENTRY.iter_unpack(history))]


def illegal_transitions(path: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """The changes of state in `path` that the table does not have, as (from, to)."""
    wrong = []
    state = ""
    for name, _ in path:
        if name not in TRANSITIONS[state]:
            wrong.append((state or "none", name))
        state = name
    return wrong
