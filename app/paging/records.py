"""What was sent and said of runs, as it stands in the topics."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2
from msgspec import Struct, field

from app import kafka
from app.core.evidence import instant
from app.settings import Settings
from app.stream.checkpoint import end_offset

#: Records of one run and topic, and bytes of one topic: many results leave room for the evidence.
_MOST_RECORDS: Final = 1_000
_MOST_BYTES: Final = 8 * 2**20


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
    consumer = await kafka.connected(kafka.consumer(settings), settings)
    try:
        async with asyncio.timeout(seconds):
            await _gather(consumer, settings, topics, (since, until), found)
    except TimeoutError:
        for one in found.values():
            one.is_whole = False
    finally:
        await consumer.stop()
    return found


async def _gather(
    consumer: Any, settings: Settings, topics: Sequence[str], span: tuple[float, float], found: dict[str, Records]
) -> None:
    partitions = {murmur2(name.encode()) & 0x7FFFFFFF for name in found}
    numbers = {number % settings.partitions for number in partitions}
    tps = [TopicPartition(settings.topic(name), number) for name in topics for number in numbers]
    consumer.assign(tps)
    ends = {tp: await end_offset(consumer, tp) for tp in tps}
    begins, later = [await _places(consumer, tps, at) for at in span]
    for tp in tps:
        consumer.seek(tp, begins.get(tp, ends[tp]))
        ends[tp] = min(ends[tp], later.get(tp, ends[tp]))
    named = {name.encode(): one for name, one in found.items()}
    kept, size = Counter[tuple[bytes, str]](), Counter[str]()
    while unread := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
        for tp, records in (await consumer.getmany(*unread, timeout_ms=200)).items():
            for record in records:
                one = named.get(record.key)
                if one is None or record.offset >= ends[tp]:
                    continue
                value = record.value or b""
                if kept[record.key, tp.topic] >= _MOST_RECORDS or size[tp.topic] + len(value) > _MOST_BYTES:
                    one.left_out += 1
                    continue
                kept[record.key, tp.topic] += 1
                size[tp.topic] += len(value)
                said = {"topic": tp.topic, "partition": tp.partition, "offset": record.offset}
                said |= {"at": instant(record.timestamp / 1000), "value": value.decode(errors="replace")}
                one.records.append(said)


async def _places(consumer: Any, tps: Sequence[TopicPartition], at: float) -> dict[TopicPartition, int]:
    """The first offset written at a time or later, seconds since the epoch, of each partition that has one."""
    found = await consumer.offsets_for_times({tp: max(0, int(at * 1000)) for tp in tps})
    # Where there is none, Kafka says -1 for the offset and the embedded broker for the time.
    return {tp: place.offset for tp, place in found.items() if place is not None and place.timestamp >= 0}
