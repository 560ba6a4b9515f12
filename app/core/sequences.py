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


def packed(numbers: list[int]) -> bytes:
    """Sequence numbers as sorted little-endian int64."""
    return np.sort(np.array(numbers, dtype="<i8")).tobytes()


class Producer(Struct, array_like=True):
    """What is known of one producer's numbers."""

    #: Every number from `start` below this one has arrived or was declared lost; None until the first grace is over.
    frontier: int | None = None
    #: The clock when the oldest hole above the frontier was first seen; None without one.
    hole_since: float | None = None
    #: Numbers at or above the frontier: int64, sorted.
    ahead: bytes = b""
    #: (first, last) of numbers declared lost.
    lost: list[tuple[int, int]] = []

    def add(self, numbers: Numbers, now: float) -> int:
        """Take in sorted numbers; says how many of them had been declared lost."""
        recovered = 0
        if self.frontier is not None:
            for number in numbers[: int(np.searchsorted(numbers, self.frontier))].tolist():
                recovered += self._recover(number)
            numbers = numbers[int(np.searchsorted(numbers, self.frontier)) :]
        ahead = np.union1d(np.frombuffer(self.ahead, dtype="<i8"), numbers)
        self._settle(ahead, now)
        return recovered

    def expire(self, now: float, grace_seconds: float) -> list[tuple[int, int]]:
        """Declare lost what has been missing for the grace; says which (first, last) ranges."""
        if self.hole_since is None or now - self.hole_since < grace_seconds:
            return []
        ahead = np.frombuffer(self.ahead, dtype="<i8")
        if self.frontier is None:  # the stream was joined in the middle: it begins at the first number that arrived
            self.frontier = int(ahead[0])
            self._settle(ahead, now)
            return []
        edges = np.concatenate(([self.frontier - 1], ahead))
        holes = np.flatnonzero(np.diff(edges) > 1)
        ranges = [(int(edges[at]) + 1, int(edges[at + 1]) - 1) for at in holes]
        self.lost = [*self.lost, *ranges][-_KEPT_RANGES:]
        self.frontier = int(ahead[-1]) + 1
        self.ahead, self.hole_since = b"", None
        return ranges

    def _settle(self, ahead: Numbers, now: float) -> None:
        if self.frontier is not None and len(ahead):
            run = int(np.count_nonzero(ahead == self.frontier + np.arange(len(ahead))))
            # Sorted and distinct, so the numbers that continue the frontier are the first ones.
            self.frontier += run
            ahead = ahead[run:]
        self.ahead = ahead.astype("<i8").tobytes()
        if not len(ahead):
            self.hole_since = None
        elif self.hole_since is None:
            self.hole_since = now

    def _recover(self, number: int) -> int:
        for index, (first, last) in enumerate(self.lost):
            if first <= number <= last:
                rest = [(first, number - 1), (number + 1, last)]
                self.lost[index : index + 1] = [(low, high) for low, high in rest if low <= high]
                return 1
        return 0
