"""What the gate answered about runs that have not closed: who never asked is found when a run closes."""

from typing import Final

import msgspec
from msgspec import Struct

from app.core.identity import fingerprint8
from app.core.outcomes import Answer

#: A run that does not come within a day of its answer is not expected any more; a partition keeps a million.
_KEPT_SECONDS: Final = 86_400
_MOST: Final = 1_000_000
_CODES: Final[tuple[Answer, ...]] = ("allow", "deny", "fallback_classical")


class _Record(Struct):
    run_id: str
    answer: Answer


_RECORD: Final = msgspec.json.Decoder(_Record)


class Answers:
    """The last answer about each run, by its fingerprint: 8 bytes and an integer."""

    def __init__(self, kept: dict[bytes, int] | None = None) -> None:
        #: Fingerprint -> seconds watched, times 4, and the code of the answer; the oldest first.
        self._kept = kept or {}

    def take(self, record: bytes, watched: float) -> Answer:
        """Take in a record of the gate; its answer.

        Raises
        ------
        msgspec.MsgspecError
            If it is none.
        """
        found = _RECORD.decode(record)
        mark = fingerprint8(found.run_id)
        self._kept.pop(mark, None)
        self._kept[mark] = 4 * int(watched) + _CODES.index(found.answer)
        if len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        return found.answer

    def pop(self, run_id: str) -> Answer | None:
        """The answer about a run that closes; None if nobody asked."""
        kept = self._kept.pop(fingerprint8(run_id), None)
        return None if kept is None else _CODES[kept % 4]

    def forget(self, watched: float) -> None:
        """Forget what is too old."""
        while self._kept:
            mark = next(iter(self._kept))
            if self._kept[mark] // 4 > watched - _KEPT_SECONDS:
                break
            del self._kept[mark]

    def snapshot(self) -> dict[bytes, int]:
        """What is kept."""
        return self._kept
