"""`qethics rebaseline`: the recorded act of holding a signal of a stream against a new baseline."""

import msgspec

from app import kafka
from app.conventions import REBASELINE_HEADER, SAMPLES
from app.core.identity import bucket
from app.core.results import stream_key
from app.core.streams import SIGNALS, Rebaseline
from app.errors import SettingError
from app.settings import Settings


async def rebaseline(settings: Settings, asked: Rebaseline) -> int:
    """Put the act into the log of the stream's partition, and return that partition.

    Raises
    ------
    SettingError
        If there is no such signal.
    EnvironmentFault
        If no broker answers.
    """
    if asked.signal not in SIGNALS:
        raise SettingError(f"there is no signal {asked.signal!r}", f"choose one of {', '.join(SIGNALS)}")
    partition = bucket(stream_key(asked.workload, asked.backend), settings.partitions)
    producer = await kafka.connected(kafka.producer(settings), settings)
    try:
        await producer.send_and_wait(
            settings.topic(SAMPLES),
            msgspec.json.encode(asked),
            partition=partition,
            headers=[(REBASELINE_HEADER, b"1")],
        )
    finally:
        await producer.stop()
    return partition
