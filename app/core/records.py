"""What the shell hands to a stage: records as Kafka delivered them, a partition's worth at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from app.conventions import HEARTBEAT_HEADER


class Record(Protocol):
    """One Kafka record. `timestamp` is in milliseconds since the epoch, as on the wire."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def is_heartbeat(record: Record) -> bool:
    """Whether a record only moves the clock of its log."""
    return any(name == HEARTBEAT_HEADER for name, _ in record.headers)


class Batch(NamedTuple):
    """A run of consecutive records of one partition.

    `first` is the offset the batch starts at, `next` the offset to continue from; both are set by the transport, so
    a stage need not know that compaction or transaction markers leave holes in between.
    """

    topic: str
    partition: int
    first: int
    next: int
    records: Sequence[Any]
