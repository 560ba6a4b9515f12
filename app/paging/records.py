"""What was sent and said of runs, as it stands in the topics."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2

from app import kafka
from app.core.evidence import instant
from app.settings import Settings
from app.stream.checkpoint import end_offset

_MOST_RECORDS: Final = 1_000


async def about_runs(
    settings: Settings, topics: Sequence[str], run_ids: Iterable[str], *, since: float, seconds: float
) -> dict[str, list[dict[str, Any]]]:
    """Every record about some runs, by run: topic, partition, offset, when it was written, and its value as text.

    Parameters
    ----------
    settings
        Where Kafka is.
    topics
        Short names of topics that are keyed by run.
    run_ids
        The runs.
    since
        What was written earlier is not looked at; seconds since the epoch.
    seconds
        How long it may take.

    Raises
    ------
    TimeoutError
        If it takes longer.
    EnvironmentFault
        If there is no broker.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(set(run_ids))}
    if not found:
        return found
    consumer = await kafka.connected(kafka.consumer(settings), settings)
    try:
        async with asyncio.timeout(seconds):
            await _gather(consumer, settings, topics, since, found)
    finally:
        await consumer.stop()
    return found


async def _gather(
    consumer: Any, settings: Settings, topics: Sequence[str], since: float, found: dict[str, list[dict[str, Any]]]
) -> None:
    partitions = {murmur2(name.encode()) & 0x7FFFFFFF for name in found}
    numbers = {number % settings.partitions for number in partitions}
    tps = [TopicPartition(settings.topic(name), number) for name in topics for number in numbers]
    consumer.assign(tps)
    ends = {tp: await end_offset(consumer, tp) for tp in tps}
    for tp, place in (await consumer.offsets_for_times({tp: max(0, int(since * 1000)) for tp in tps})).items():
        consumer.seek(tp, ends[tp] if place is None else place.offset)
    names = {name.encode(): name for name in found}
    while any([await consumer.position(tp) < ends[tp] for tp in tps]):
        for tp, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                name = names.get(record.key)
                if name is not None and len(found[name]) < _MOST_RECORDS:
                    said = {"topic": tp.topic, "partition": tp.partition, "offset": record.offset}
                    value = (record.value or b"").decode(errors="replace")
                    found[name].append({**said, "at": instant(record.timestamp / 1000), "value": value})
