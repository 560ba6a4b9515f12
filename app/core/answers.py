"""What the gate answered about runs: who never asked, or did not obey, is found when a run closes."""

from collections import OrderedDict
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from app.core.events import Id
from app.core.facts import Document, facts_mark
from app.core.identity import fingerprint8
from app.core.obedience import UNKNOWN_FACTS, Answer, Given, packed

#: A run that does not come within a day of its answer is not expected any more; a partition keeps a million.
_KEPT_SECONDS: Final = 86_400
_MOST: Final = 1_000_000
#: Answers about one run; the first ones count, and every denial.
_MOST_OF_A_RUN: Final = 32


class _Record(Struct):
    """What counts of a decision record of the gate (`outcomes.DecisionRecord`)."""

    run_id: Id
    answer: Answer
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None
    input: Raw = Raw(b"null")
    input_digest: str | None = None


_RECORD: Final = msgspec.json.Decoder(_Record)
_DOCUMENT: Final = msgspec.json.Decoder(Document)


def given(record: bytes) -> tuple[str, Given]:
    """Return what a record of the gate says: of which run, and the answer.

    Raises
    ------
    ValueError
        If it is none, or its input is not the one whose digest it carries.
    """
    found = _RECORD.decode(record)
    at = found.timestamp.timestamp() if found.timestamp is not None else 0.0
    if bytes(found.input) == b"null":
        return found.run_id, Given(found.answer, at)
    if sha256(found.input).hexdigest() != found.input_digest:
        raise ValueError("the digest of the input is that of another one")
    document = _DOCUMENT.decode(found.input)
    routing = facts_mark(document.routing) if "routing" in document.judging else UNKNOWN_FACTS
    return found.run_id, Given(found.answer, at, facts_mark(document.run), routing)


class Answers:
    """The answers about each run that has not closed, by its fingerprint."""

    def __init__(self, kept: dict[bytes, tuple[float, bytes]] | None = None) -> None:
        #: Fingerprint -> when the last one was taken in, in seconds watched, and the packed answers; the oldest first.
        self._kept = OrderedDict(kept or {})

    def take(self, record: bytes, watched: float) -> tuple[str, Given]:
        """Take in a record of the gate, and return what it says. Raises as `given`."""
        run_id, found = given(record)
        self.add(run_id, found, watched)
        return run_id, found

    def add(self, run_id: str, found: Given, watched: float) -> None:
        """Keep an answer about a run."""
        mark = fingerprint8(run_id)
        _, entries = self._kept.pop(mark, (0.0, b""))
        entry = packed(found)
        if len(entries) < _MOST_OF_A_RUN * len(entry) or (found.answer == "deny" and entry not in entries):
            entries += entry
        self._kept[mark] = watched, entries[-2 * _MOST_OF_A_RUN * len(entry) :]
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    def pop(self, run_id: str) -> bytes:
        """Return the packed answers about a run that closes; nothing if nobody asked."""
        return self._kept.pop(fingerprint8(run_id), (0.0, b""))[1]

    def forget(self, watched: float) -> None:
        """Forget what is too old."""
        while self._kept:
            mark, (at, _) = next(iter(self._kept.items()))
            if at > watched - _KEPT_SECONDS:
                break
            del self._kept[mark]

    def snapshot(self) -> dict[bytes, tuple[float, bytes]]:
        """Return what is kept."""
        return dict(self._kept)
