"""`qethics rebaseline`: the recorded act of holding a signal of a stream, or spending, against a new baseline."""

import time

import msgspec

from app import kafka
from app.catalog import CatalogFile
from app.conventions import REBASELINE_HEADER, SAMPLES
from app.core.catalog import OTHER, UNKNOWN
from app.core.identity import bucket
from app.core.results import stream_key
from app.core.streams import SIGNALS, Rebaseline
from app.documents import read
from app.errors import SettingError
from app.serving import seal_of
from app.settings import Settings


async def rebaseline(settings: Settings, asked: Rebaseline) -> int:
    """Put the act into the log of the stream's partition, and return that partition.

    Raises
    ------
    SettingError
        If there is no such signal or cost center, or not one of the two is named.
    EnvironmentFault
        If no broker answers.
    """
    partition, value = bucket(_key(settings, asked), settings.partitions), msgspec.json.encode(asked)
    seal = seal_of(settings)
    producer = await kafka.connected(kafka.producer(settings), settings)
    try:
        await producer.send_and_wait(
            settings.topic(SAMPLES),
            value,
            partition=partition,
            headers=seal.headers(SAMPLES, partition, REBASELINE_HEADER, b"1", value, time.time()),
        )
    finally:
        await producer.stop()
    return partition


def _key(settings: Settings, asked: Rebaseline) -> str:
    """What decides in which partition it is kept."""
    of_stream = (asked.workload, asked.backend, asked.signal)
    if not (asked.cost_center or all(of_stream)) or (asked.cost_center and any(of_stream)):
        remedy = "name --workload, --backend and --signal, or --cost-center"
        raise SettingError("it is not said which baseline is meant", remedy)
    if asked.cost_center:
        known = [*read(settings.policies / "catalog.yaml", CatalogFile).cost_centers, OTHER, UNKNOWN]
        if asked.cost_center not in known:
            raise SettingError(f"there is no cost center {asked.cost_center!r}", f"choose one of {', '.join(known)}")
        return asked.cost_center
    if asked.signal not in SIGNALS:
        raise SettingError(f"there is no signal {asked.signal!r}", f"choose one of {', '.join(SIGNALS)}")
    return stream_key(asked.workload, asked.backend)
