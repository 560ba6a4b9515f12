"""What the shell hands to a stage: records as Kafka delivered them, a partition's worth at a time."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from app.conventions import GAP_HEADER, HEARTBEAT_HEADER, POLICY_HEADER, REBASELINE_HEADER, SEAL_HEADER
from app.core.decode import Reason, Rejection
from app.core.seal import MAX_AGE_SECONDS, Seal


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
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Control(NamedTuple):
    """A control record: one of our own among the events.

    A heartbeat, with its time in seconds since the epoch; the notice that events of a producer (`gap`) were lost; the
    wish for a new baseline; or the bundle of the policy that judges what comes after it.
    """

    heartbeat: float | None = None
    gap: str | None = None
    rebaseline: bytes | None = None
    policy: bytes | None = None


_NAMES: Final = frozenset({HEARTBEAT_HEADER, GAP_HEADER, REBASELINE_HEADER, POLICY_HEADER})
#: Of a producer's name, as `events.Id` has it.
_MOST_NAME_BYTES: Final = 512


def control(record: Record, topic: str, partition: int, seal: Seal, at: float) -> Control | Rejection | None:
    """Return what a record says to the stage itself; None if it is an event.

    Parameters
    ----------
    record
        Any record, whoever wrote it.
    topic, partition
        Where it stands; the short name of the topic.
    seal
        What it has to be sealed with.
    at
        What its log has reached, in seconds since the epoch; 0 before the first heartbeat.
    """
    found = [(name, text) for name, text in record.headers if name in _NAMES]
    if not found:
        return None
    name, text = found[0]
    if len(found) > 1 or not text or len(text) > _MOST_NAME_BYTES:
        return Rejection(Reason.INVALID_FIELD, f"the header {name} of a control record is empty, too long or not alone")
    stamp: float | Rejection = record.timestamp / 1000
    if seal:
        stamp = _sealed_at(record, topic, partition, seal, name, text, at)
    if isinstance(stamp, Rejection):
        return stamp
    if name == HEARTBEAT_HEADER:
        return Control(heartbeat=stamp) if stamp >= 0 else Rejection(Reason.INVALID_FIELD, "a heartbeat without a time")
    return _asking(name, text, record.value or b"")


def _sealed_at(
    record: Record, topic: str, partition: int, seal: Seal, name: str, text: bytes, at: float
) -> float | Rejection:
    mark = next((digest for header, digest in record.headers if header == SEAL_HEADER), None)
    sealed_at = seal.sealed_at(mark, topic, partition, name, text, record.value or b"")
    if sealed_at is None:
        return Rejection(Reason.UNSEALED_CONTROL, f"{name}: no seal, or not one of this deployment's control key")
    if sealed_at < at - MAX_AGE_SECONDS:
        return Rejection(Reason.UNSEALED_CONTROL, f"{name}: sealed {at - sealed_at:.0f} s ago and written again")
    return sealed_at


def _asking(name: str, text: bytes, value: bytes) -> Control:
    if name == GAP_HEADER:
        return Control(gap=text.decode(errors="replace"))
    return Control(rebaseline=value) if name == REBASELINE_HEADER else Control(policy=value)


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
