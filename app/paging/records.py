"""What was sent and said of runs, as it stands in the topics."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2
from msgspec import Struct, field

from app import kafka
from app.conventions import EVIDENCE, VIOLATIONS
from app.core.evidence import instant
from app.settings import Settings
from app.stream.checkpoint import end_offset
from app.unreadable import UNREADABLE

#: Records of one run and topic, and bytes of one topic: many results leave room for the evidence.
_MOST_RECORDS: Final = 1_000
_MOST_BYTES: Final = 8 * 2**20
#: Runs of one kind of wrong, of which all are named.
_MOST_RUNS: Final = 10_000
#: Records looked at in one go: the pages that go out wait for no longer.
_BATCH: Final = 500
#: Steps that no run is meant to end with.
_BAD_ENDS: Final = ("failed", "timed_out")


class Records(Struct):
    """What was found about a run: topic, partition, offset, when it was written, and its value as text."""

    records: list[dict[str, Any]] = field(default_factory=list)
    #: Records beyond what is kept.
    left_out: int = 0
    #: Whether the time was enough to read everything.
    is_whole: bool = True


async def about_runs(
    settings: Settings, topics: Sequence[str], run_ids: Iterable[str], *, since: float, until: float, seconds: float
) -> dict[str, Records]:
    """Every record about some runs, by run.

    Parameters
    ----------
    settings
        Where Kafka is.
    topics
        Short names of topics that are keyed by run.
    run_ids
        The runs.
    since, until
        What was written earlier or later is not looked at; seconds since the epoch.
    seconds
        How long it may take; what was found by then is not whole.

    Raises
    ------
    EnvironmentFault
        If there is no broker.
    """
    found = {name: Records() for name in sorted(set(run_ids))}
    if not found:
        return found
    partitions = {(murmur2(name.encode()) & 0x7FFFFFFF) % settings.partitions for name in found}
    named = {name.encode(): one for name, one in found.items()}
    kept, size = Counter[tuple[bytes, str]](), Counter[str]()

    def take(record: Any) -> None:
        one = named.get(record.key)
        if one is None:
            return
        value = record.value or b""
        if kept[record.key, record.topic] >= _MOST_RECORDS or size[record.topic] + len(value) > _MOST_BYTES:
            one.left_out += 1
            return
        kept[record.key, record.topic] += 1
        size[record.topic] += len(value)
        said = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        said |= {"at": instant(record.timestamp / 1000), "value": value.decode(errors="replace")}
        one.records.append(said)

    is_whole = await _each(settings, topics, partitions, (since, until), seconds, take)
    for one in found.values():
        one.is_whole = is_whole
    return found


class Affected(Struct):
    """Runs that something is wrong with: what it is -> the first of them, in the order they were written about."""

    since: str
    until: str
    runs: dict[str, list[str]] = field(default_factory=dict)
    #: What it is -> records about further runs, which may repeat themselves.
    left_out: dict[str, int] = field(default_factory=dict)
    #: Whether the time was enough to read everything.
    is_whole: bool = True


class _Closed(Struct):
    """What is looked at of a record of evidence."""

    kind: str
    closed: str = ""
    required: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)


class _Violated(Struct):
    """What is looked at of a violation."""

    rule: str
    mode: str


_CLOSED: Final = msgspec.json.Decoder(_Closed)
_VIOLATED: Final = msgspec.json.Decoder(_Violated)


async def affected(settings: Settings, *, since: float, until: float, seconds: float) -> Affected:
    """The runs that broke a rule, closed without evidence that their tier requires, failed, or timed out.

    Parameters
    ----------
    settings, since, until, seconds
        As those of `about_runs`.

    Raises
    ------
    EnvironmentFault
        If there is no broker.
    """
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    left_out = Counter[str]()

    def take(record: Any) -> None:
        run_id = (record.key or b"").decode(errors="replace")
        for what in _wrong(record.topic.removeprefix(settings.topic_prefix), record.value or b""):
            runs = found[what]
            if run_id in runs or len(runs) < _MOST_RUNS:
                runs[run_id] = None
            else:
                left_out[what] += 1

    topics = (VIOLATIONS, EVIDENCE)
    is_whole = await _each(settings, topics, range(settings.partitions), (since, until), seconds, take)
    runs = {what: list(ids) for what, ids in sorted(found.items())}
    return Affected(instant(since), instant(until), runs, dict(left_out), is_whole)


def _wrong(topic: str, value: bytes) -> Iterator[str]:
    try:
        if topic == VIOLATIONS:
            violated = _VIOLATED.decode(value)
            yield f"violated {violated.rule}" + ("" if violated.mode == "enforce" else f" ({violated.mode})")
            return
        closed = _CLOSED.decode(value)
    except UNREADABLE:
        yield f"unreadable in {topic}"
        return
    yield from (f"lacks {name}" for name in closed.required if name in closed.missing)
    yield from ("abandoned",) if closed.closed == "abandoned" else ()
    yield from (f"ended {name}" for name in _BAD_ENDS if any(name == step for step, _ in closed.steps))


async def _each(
    settings: Settings,
    topics: Sequence[str],
    partitions: Iterable[int],
    span: tuple[float, float],
    seconds: float,
    take: Callable[[Any], None],
) -> bool:
    """Look at every record that was written in a span of time; whether the seconds were enough for it."""
    consumer = await kafka.connected(kafka.consumer(settings), settings)
    tps = [TopicPartition(settings.topic(name), number) for name in topics for number in partitions]
    try:
        async with asyncio.timeout(seconds):
            await _between(consumer, tps, span, take)
    except TimeoutError:
        return False
    finally:
        await consumer.stop()
    return True


async def _between(
    consumer: Any, tps: Sequence[TopicPartition], span: tuple[float, float], take: Callable[[Any], None]
) -> None:
    consumer.assign(tps)
    ends = {tp: await end_offset(consumer, tp) for tp in tps}
    begins, later = [await _places(consumer, tps, at) for at in span]
    for tp in tps:
        consumer.seek(tp, begins.get(tp, ends[tp]))
        ends[tp] = min(ends[tp], later.get(tp, ends[tp]))
    while unread := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
        for tp, records in (await consumer.getmany(*unread, timeout_ms=200, max_records=_BATCH)).items():
            for record in records:
                if record.offset < ends[tp]:
                    take(record)
        await asyncio.sleep(0)  # what pages comes first


async def _places(consumer: Any, tps: Sequence[TopicPartition], at: float) -> dict[TopicPartition, int]:
    """The first offset written at a time or later, seconds since the epoch, of each partition that has one."""
    found = await consumer.offsets_for_times({tp: max(0, int(at * 1000)) for tp in tps})
    # Where there is none, Kafka says -1 for the offset and the embedded broker for the time.
    return {tp: place.offset for tp, place in found.items() if place is not None and place.timestamp >= 0}
