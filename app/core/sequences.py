"""Gaps in the sequence numbers of producers: what was sent and never arrived.

The numbers of one producer are spread over every partition of both inputs, so they are brought together by producer
and may arrive in any order and more than once. A number that stays away for longer than the grace is lost.
"""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
#: Ranges of lost numbers kept to recognise one that turns up after all.
_KEPT_RANGES: Final = 1_000
#: What JSON numbers carry exactly (RFC 8259, section 6).
MOST: Final = 2**53 - 1
#: Numbers that one producer can have lost in a row; what is further ahead of all others is no number of its own count.
MOST_JUMP: Final = 1_000_000


def packed(numbers: list[int]) -> bytes:
    """Sequence numbers as little-endian int64."""
    return np.array(numbers, dtype="<i8").tobytes()


class Producer(Struct, array_like=True):
    """What is known of one producer's numbers.

    A number is lost when it is missing although a higher one arrived a grace ago. `mark` is the highest number seen
    when the current grace began; at its end whatever is missing below the mark is lost, and the next grace begins. So a
    loss shows between one and two graces after it.
    """

    #: Every number from the first one seen and below this has arrived or was declared lost; None in the first grace.
    frontier: int | None = None
    #: The highest number seen when the grace began; None before the first tick.
    mark: int | None = None
    marked_at: float = 0.0
    #: When numbers came last, in seconds watched, to the tick.
    heard_at: float = 0.0
    #: Numbers at or above the frontier as of the last tick: int64, sorted, distinct.
    ahead: bytes = b""
    #: Numbers that came since, as they came; put in order once a tick rather than once a batch.
    fresh: list[bytes] = []
    #: (first, last) of numbers declared lost.
    lost: list[tuple[int, int]] = []

    def add(self, numbers: bytes) -> None:
        """Take in numbers: int64, little-endian."""
        self.fresh.append(numbers)

    def merge(self, now: float) -> tuple[int, int]:
        """Put what came until `now` in order.

        Returns
        -------
        How many numbers of it had been declared lost, and how many are out of all proportion and were left out.
        """
        if not self.fresh:
            return 0, 0
        self.heard_at = now
        numbers, far = self._near(np.unique(np.frombuffer(self.ahead + b"".join(self.fresh), dtype="<i8")))
        self.fresh = []
        recovered = 0
        if self.frontier is not None:
            known = int(np.searchsorted(numbers, self.frontier))
            recovered = sum(self._recover(number) for number in numbers[:known].tolist()) if self.lost else 0
            numbers = numbers[known:]
        self._settle(numbers)
        return recovered, far

    def _near(self, numbers: Numbers) -> tuple[Numbers, int]:
        """Leave out of sorted numbers what is behind a jump that no loss explains, and return how many that is.

        One number out of all proportion, forged or wrong, would make billions of losses.
        """
        possible = numbers[(numbers >= 0) & (numbers <= MOST)]
        if self.frontier is None:  # nothing is known yet: most of them are right
            edges = [0, *(np.flatnonzero(np.diff(possible) > MOST_JUMP) + 1).tolist(), len(possible)]
            largest = int(np.argmax(np.diff(edges)))
            first, last = edges[largest], edges[largest + 1]
        else:
            first = int(np.searchsorted(possible, self.frontier - MOST_JUMP))
            begin = int(np.searchsorted(possible, self.frontier))
            jumps = np.flatnonzero(np.diff(possible[begin:], prepend=self.frontier) > MOST_JUMP)
            last = begin + int(jumps[0]) if len(jumps) else len(possible)
        return possible[first:last], len(numbers) - (last - first)

    def tick(self, now: float, grace_seconds: float) -> list[tuple[int, int]]:
        """Declare lost what has been missing for a grace; says which (first, last) ranges. After `merge`."""
        if self.mark is not None and now - self.marked_at < grace_seconds:
            return []
        ahead = np.frombuffer(self.ahead, dtype="<i8")
        ranges: list[tuple[int, int]] = []
        if self.mark is not None:
            if self.frontier is None:  # the stream may have been joined in the middle: it begins where we came in
                self.frontier = int(ahead[0])
            ranges = self._missing(ahead, self.frontier, self.mark)
            self.frontier = max(self.frontier, self.mark + 1)
            self._settle(ahead[int(np.searchsorted(ahead, self.frontier)) :])
            self.lost = [*self.lost, *ranges][-_KEPT_RANGES:]
        self.mark = self._highest()
        self.marked_at = now
        return ranges

    @staticmethod
    def _missing(ahead: Numbers, frontier: int, mark: int) -> list[tuple[int, int]]:
        """The ranges missing from [frontier, mark]."""
        seen = ahead[: int(np.searchsorted(ahead, mark, side="right"))]
        edges = np.concatenate(([frontier - 1], seen, [mark + 1]))
        return [(int(edges[at]) + 1, int(edges[at + 1]) - 1) for at in np.flatnonzero(np.diff(edges) > 1)]

    def _highest(self) -> int | None:
        if self.ahead:
            return int(np.frombuffer(self.ahead[-8:], dtype="<i8")[0])
        return None if self.frontier is None else self.frontier - 1

    def _settle(self, ahead: Numbers) -> None:
        """Move the frontier over the numbers that continue it; sorted and distinct, they are the first ones."""
        if self.frontier is not None and len(ahead):
            continued = int(np.count_nonzero(ahead == self.frontier + np.arange(len(ahead))))
            self.frontier += continued
            ahead = ahead[continued:]
        self.ahead = ahead.astype("<i8").tobytes()

    def _recover(self, number: int) -> int:
        for index, (first, last) in enumerate(self.lost):
            if first <= number <= last:
                rest = [(first, number - 1), (number + 1, last)]
                self.lost[index : index + 1] = [(low, high) for low, high in rest if low <= high]
                return 1
        return 0
