"""What the shell asks of the rooms it connects. No domain nouns here: records, stages, outcomes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Batch(NamedTuple):
    """Consecutive records of one partition.

    `first` is where the batch before it ended and `next` where it ends itself, so that batches of one generation join
    without a hole, whatever offsets hold no record. `generation` is that of the restore they follow.
    """

    topic: str
    partition: int
    first: int
    next: int
    records: Sequence[Any]
    generation: int = 0


class Stage(Protocol):
    """A pure state machine over the logs of one partition number."""

    def apply(self, batch: Any) -> Any:
        """Take in a batch; returns outcomes, which the shell does not look into."""

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


class Store(Protocol):
    """Where checkpoints are kept."""

    async def write(self, name: str, partition: int, positions: Mapping[str, int], state: bytes) -> None:
        """Returns when the checkpoint is durable."""

    async def read(self, name: str, partition: int) -> tuple[dict[str, int], bytes] | None:
        """The last complete checkpoint, or None."""

    def unusable(self, name: str, partition: int, error: Exception) -> str:
        """Say that a checkpoint cannot be continued from, why, and what to do."""
