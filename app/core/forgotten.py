"""What is kept of things long over: eight bytes each and a small number, in sorted generations.

Of a run that was closed long ago: without it, a repeat that arrives after all else was forgotten would open the run
again and count it twice. Of its charges: bills come hours late, and more than once.
"""

import sys
from bisect import bisect_left
from typing import Final

import numpy as np
from numpy.typing import NDArray

GENERATION: Final = 65_536
GENERATIONS: Final = 16
#: As many are held apart until they are sorted in: a mark in a dict takes fifteen times what it takes in an array.
RECENT: Final = 4_096
#: The largest number that can be kept with a mark.
MOST: Final = 2**16 - 1

_Generation = tuple[NDArray[np.uint64], NDArray[np.uint16]]
_EMPTY: Final[_Generation] = np.empty(0, np.uint64), np.empty(0, np.uint16)


class Forgotten:
    """The last marks of a partition with a number each; a false hit has probability below 1e-12.

    Parameters
    ----------
    generations
        What `snapshot` returned, oldest first.
    most
        How many full generations are kept; 16 are a million marks.
    """

    def __init__(self, generations: list[tuple[bytes, bytes]] | None = None, *, most: int = GENERATIONS) -> None:
        self._most = most
        self._full: list[_Generation] = []
        self._filling = _EMPTY
        self._recent: dict[bytes, int] = {}
        for marks, numbers in generations or []:
            one = np.frombuffer(marks, dtype=np.uint64), np.frombuffer(numbers, dtype=np.uint16)
            if len(one[0]) < GENERATION:
                self._filling = _sorted(*one)
            else:
                self._full.append(one)

    def add(self, mark: bytes, number: int = 0) -> None:
        """Keep a mark of eight bytes with a number (0 to `MOST`)."""
        self._recent[mark] = number
        if len(self._recent) >= RECENT or len(self._recent) + len(self._filling[0]) >= GENERATION:
            self._filling, self._recent = self._newest(), {}
            if len(self._filling[0]) >= GENERATION:
                self._full = [*self._full, self._filling][-self._most :]
                self._filling = _EMPTY

    def get(self, mark: bytes) -> int | None:
        """The number that was kept with a mark; None if the mark is not known, or not any more."""
        found = self._recent.get(mark)
        if found is not None:
            return found
        value = int.from_bytes(mark, sys.byteorder)
        for marks, numbers in (self._filling, *reversed(self._full)):
            # Not numpy's own search: of one number in one array, its calls cost more than the steps of this one.
            at = bisect_left(marks.data, value)
            if at < len(marks) and marks.data[at] == value:
                return int(numbers[at])
        return None

    def snapshot(self) -> list[tuple[bytes, bytes]]:
        """The generations as bytes, oldest first, each sorted; the last one is the one being filled."""
        return [(marks.tobytes(), numbers.tobytes()) for marks, numbers in (*self._full, self._newest())]

    def _newest(self) -> _Generation:
        """The generation that is being filled, with what is held apart."""
        if not self._recent:
            return self._filling
        marks = np.frombuffer(b"".join(self._recent), dtype=np.uint64)
        numbers = np.fromiter(self._recent.values(), dtype=np.uint16, count=len(self._recent))
        known, given = self._filling
        return _sorted(np.concatenate([known, marks]), np.concatenate([given, numbers]))


def _sorted(marks: NDArray[np.uint64], numbers: NDArray[np.uint16]) -> _Generation:
    """Marks in order, each once with its last number."""
    order = np.argsort(marks, kind="stable")
    marks, numbers = marks[order], numbers[order]
    is_last = np.append(marks[1:] != marks[:-1], True)[: len(marks)]
    return marks[is_last], numbers[is_last]
