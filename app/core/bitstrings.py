"""Which outcomes of a stream's results have moved: the first jobs beside the last."""

from collections.abc import Iterable
from math import sqrt
from typing import Final

import msgspec
from msgspec import Struct

from app.core.events import Count
from app.unreadable import UNREADABLE

#: Results with more different outcomes than this are not kept: in a wide circuit nearly every outcome is new.
MAX_OUTCOMES: Final = 32
#: Jobs that the usual shares are from, and the last ones they are compared with.
_USUAL_JOBS: Final = 200
_RECENT_JOBS: Final = 8
#: Outcomes kept of the usual jobs.
_KEPT: Final = 256
_NAMED: Final = 4

_DECODER: Final = msgspec.msgpack.Decoder(dict[str, Count])
_ENCODER: Final = msgspec.msgpack.Encoder()


def unpacked(outcomes: bytes) -> dict[str, int]:
    """Return what `packed` packed; nothing of bytes that it cannot have packed."""
    try:
        return _DECODER.decode(outcomes)
    except UNREADABLE:
        return {}


def width_of(outcomes: bytes) -> int:
    """How many bits the packed outcomes have; 0 if there are none, or of several widths."""
    widths = {len(outcome) for outcome in unpacked(outcomes)}
    return widths.pop() if len(widths) == 1 else 0


def packed(counts: dict[str, int]) -> bytes | None:
    """Counts as a stream keeps them; None if they have too many outcomes."""
    return _ENCODER.encode(counts) if len(counts) <= MAX_OUTCOMES else None


class Bitstrings(Struct, frozen=True, array_like=True):
    """The outcomes of one stream: the sum of its first jobs, and the last few as they came.

    A value: an alert of an earlier observation still sees what there was then.
    """

    usual: dict[str, int] = {}
    jobs: int = 0
    recent: tuple[bytes, ...] = ()

    def take(self, counts: bytes) -> "Bitstrings":
        """With the packed counts of one more job."""
        recent, usual, jobs = (*self.recent, counts), self.usual, self.jobs
        if len(recent) > _RECENT_JOBS:
            oldest, recent = recent[0], recent[1:]
            if jobs < _USUAL_JOBS:
                usual, jobs = _sum(usual, [oldest]), jobs + 1
        return Bitstrings(usual, jobs, recent)

    def moved(self) -> str:
        """The outcomes whose share moved most, in standard errors of counting, with their shares before and lately."""
        recent = _sum({}, self.recent)
        before, lately = sum(self.usual.values()), sum(recent.values())
        if not before or not lately:
            return ""
        found = []
        for outcome in {*self.usual, *recent}:
            one, other = self.usual.get(outcome, 0), recent.get(outcome, 0)
            both = (one + other) / (before + lately)
            error = sqrt(both * (1 - both) * (1 / before + 1 / lately))
            step = other / lately - one / before
            if error and abs(step) > 2 * error:
                found.append((-abs(step) / error, outcome, one / before, other / lately))
        return ", ".join(f"{outcome} {old:.4f} -> {new:.4f}" for _, outcome, old, new in sorted(found)[:_NAMED])


def _sum(counted: dict[str, int], more: Iterable[bytes]) -> dict[str, int]:
    total = dict(counted)
    for counts in more:
        for outcome, count in unpacked(counts).items():
            if outcome in total or len(total) < _KEPT:
                total[outcome] = total.get(outcome, 0) + count
    return total
