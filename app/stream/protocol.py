"""What the shell asks of the rooms it connects. No domain nouns here: records, stages, outcomes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct, field

from app.stream.logs import Mark

#: Positions are counted on when a log begins anew: in the n-th log that a partition had, offset o is position
#: n * LOG + o. So positions never go back, and nothing takes a record of the new log for one of the old. A partition
#: that takes in 10,000 records a second reaches the end of one after 31 years; 2^53, the largest that JSON carries,
#: leaves room for 900.
LOG: Final = 10**13


def offset_of(position: int) -> int:
    """Where a position is in its log."""
    return position % LOG


class Batch(NamedTuple):
    """Consecutive records of one partition.

    `first` is where the batch before it ended and `next` where it ends itself, so that batches of one generation join
    without a hole, whatever offsets hold no record. `generation` is that of the restore they follow. `unreadable` says
    why the one record that the batch then has stands for offsets whose records cannot be read. Offsets are positions.
    """

    topic: str
    partition: int
    first: int
    next: int
    records: Sequence[Any]
    generation: int = 0
    unreadable: "SetAside | None" = None


class SetAside(NamedTuple):
    """Why records do not get to their stage: the short reason, and a detail for the person who will look."""

    reason: str
    detail: str


class Stage(Protocol):
    """A pure state machine over the logs of one partition number."""

    def apply(self, batch: Any) -> Any:
        """Take in a batch; returns outcomes, which the shell does not look into."""

    def set_aside(self, batch: Any, reason: str, detail: str) -> Any:
        """Take note of records that are not to be taken in, and say so; returns outcomes as `apply` does."""

    def snapshot(self) -> bytes:
        """The whole state."""

    def restore(self, snapshot: bytes) -> None:
        """Continue from a state."""


class Kind(NamedTuple):
    """A kind of stage: the topics it reads, how one is made for a partition, and what is done ahead of a batch.

    `prepare` may take long; whatever it does must not depend on the stage.
    """

    name: str
    topics: tuple[str, ...]
    build: Callable[[int], Stage]
    prepare: Callable[[Batch], Awaitable[None]] | None = None


class Sinks(Protocol):
    """Where outcomes go."""

    async def write(self, partition: int, outcomes: Any) -> None:
        """Returns when everything is durable; raises if that cannot be had."""


class Traces(Protocol):
    """Who is told how long each step took: instants in seconds since the epoch."""

    def batch(self, batch: Batch, outcomes: Any, taken_at: float, applied_at: float, written_at: float) -> None:
        """A batch was taken from the queue, applied, and what follows from it written."""

    def checkpoint(self, name: str, partition: int, size: int, began_at: float, ended_at: float) -> None:
        """A checkpoint of `size` bytes was written."""

    def restore(self, units: int, began_at: float, ended_at: float) -> None:
        """The state of so many units was read back."""


class Suspect(Struct, frozen=True):
    """Positions of a topic, from `first` to below `next`, in which is what ended the process so many times."""

    topic: str
    first: int
    next: int
    times: int
    error: str


class Notes(Struct, frozen=True):
    """What is known beside the state."""

    #: A record that was read, for each topic, to know its log again by.
    marks: dict[str, Mark] = field(default_factory=dict)
    suspects: tuple[Suspect, ...] = ()


class Store(Protocol):
    """Where checkpoints are kept."""

    async def write(self, name: str, partition: int, positions: Mapping[str, int], state: bytes, notes: Notes) -> None:
        """Returns when the checkpoint is durable."""

    def unusable(self, name: str, partition: int, error: Exception) -> str:
        """Say that a checkpoint cannot be continued from, why, and what to do."""

    async def note(self, name: str, partition: int, notes: Notes) -> None:
        """Put other notes beside the last checkpoint; returns when they are durable."""

    async def read(self, name: str, partition: int) -> tuple[dict[str, int], bytes, Notes] | None:
        """The last complete checkpoint, or None. The state is empty if there are notes alone."""
