"""What the shell hands to a stage: records as Kafka delivered them, a partition's worth at a time."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from app.conventions import GAP_HEADER, HEARTBEAT_HEADER, POLICY_HEADER, REBASELINE_HEADER


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


class Control(NamedTuple):
    """A record of our own among the events.

    A heartbeat; the notice that events of a producer (`gap`) were lost; the wish for a new baseline; or the bundle of
    the policy that judges what comes after it.
    """

    heartbeat: bool = False
    gap: str | None = None
    rebaseline: bytes | None = None
    policy: bytes | None = None


_HEARTBEAT: Final = Control(heartbeat=True)


def control(record: Record) -> Control | None:
    """What a record says to the stage itself; None if it is an event."""
    for name, text in record.headers:
        if name == HEARTBEAT_HEADER:
            return _HEARTBEAT
        if name == GAP_HEADER:
            return Control(gap=text.decode(errors="replace"))
        if name == REBASELINE_HEADER:
            return Control(rebaseline=record.value or b"")
        if name == POLICY_HEADER:
            return Control(policy=record.value or b"")
    return None


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
