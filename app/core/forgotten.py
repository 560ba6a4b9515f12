"""What is kept of things long over: eight bytes each and a small number, in sorted generations.

Of a run that was closed long ago: without it, a repeat that arrives after all else was forgotten would open the run
again and count it twice. Of its charges: bills come hours late, and more than once.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

GENERATION: Final = 65_536
GENERATIONS: Final = 16
#: The largest number that can be kept with a mark.
MOST: Final = 2**16 - 1


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
        self._sorted: list[tuple[NDArray[np.uint64], NDArray[np.uint16]]] = []
        self._recent: dict[bytes, int] = {}
        for packed_marks, packed_numbers in generations or []:
            marks = np.frombuffer(packed_marks, dtype=np.uint64)
            numbers = np.frombuffer(packed_numbers, dtype=np.uint16)
            if len(marks) < GENERATION:
                each = (packed_marks[at : at + 8] for at in range(0, len(packed_marks), 8))
                self._recent = dict(zip(each, numbers.tolist(), strict=True))
            else:
                self._sorted.append((marks, numbers))

    def add(self, mark: bytes, number: int = 0) -> None:
        """Keep a mark of eight bytes with a number (0 to `MOST`)."""
        self._recent[mark] = number
        if len(self._recent) >= GENERATION:
            marks, numbers = self._packed()
            order = np.argsort(marks)
            self._sorted = [*self._sorted, (marks[order], numbers[order])][-self._most :]
            self._recent = {}

    def get(self, mark: bytes) -> int | None:
        """The number that was kept with a mark; None if the mark is not known, or not any more."""
        found = self._recent.get(mark)
        if found is not None or not self._sorted:
            return found
        value = np.frombuffer(mark, dtype=np.uint64)[0]
        for marks, numbers in reversed(self._sorted):
            at = int(np.searchsorted(marks, value))
            if at < len(marks) and marks[at] == value:
                return int(numbers[at])
        return None

    def snapshot(self) -> list[tuple[bytes, bytes]]:
        """The generations as bytes, oldest first; the last one is the one being filled."""
        return [(marks.tobytes(), numbers.tobytes()) for marks, numbers in (*self._sorted, self._packed())]

    def _packed(self) -> tuple[NDArray[np.uint64], NDArray[np.uint16]]:
        """What is being filled, in the order it came."""
        marks = np.frombuffer(b"".join(self._recent), dtype=np.uint64)
        return marks, np.fromiter(self._recent.values(), dtype=np.uint16, count=len(self._recent))
