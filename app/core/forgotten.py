"""Which runs were closed so long ago that nothing else is kept of them: eight bytes a run, in sorted generations.

Without it, a repeat that arrives after its run was closed and forgotten would open the run again and count it twice.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.identity import fingerprint8

GENERATION: Final = 65_536
GENERATIONS: Final = 16


class Forgotten:
    """The last million closed runs of a partition, by fingerprint; a false hit has probability below 1e-12.

    Parameters
    ----------
    generations
        What `snapshot` returned, oldest first.
    """

    def __init__(self, generations: list[bytes] | None = None) -> None:
        self._sorted: list[NDArray[np.uint64]] = []
        self._recent: set[bytes] = set()
        for generation in generations or []:
            marks = np.frombuffer(generation, dtype=np.uint64)
            if len(marks) < GENERATION:
                self._recent = {generation[at : at + 8] for at in range(0, len(generation), 8)}
            else:
                self._sorted.append(marks)

    def add(self, run_id: str) -> None:
        """Remember that a run was closed."""
        self._recent.add(fingerprint8(run_id))
        if len(self._recent) >= GENERATION:
            marks = np.frombuffer(b"".join(self._recent), dtype=np.uint64)
            self._sorted = [*self._sorted, np.sort(marks)][-GENERATIONS:]
            self._recent = set()

    def __contains__(self, run_id: str) -> bool:
        mark = fingerprint8(run_id)
        if mark in self._recent:
            return True
        if not self._sorted:
            return False
        value = np.frombuffer(mark, dtype=np.uint64)[0]
        for generation in self._sorted:
            at = int(np.searchsorted(generation, value))
            if at < len(generation) and generation[at] == value:
                return True
        return False

    def snapshot(self) -> list[bytes]:
        """The generations as bytes, oldest first; the last one is the one being filled."""
        return [*(generation.tobytes() for generation in self._sorted), b"".join(sorted(self._recent))]
