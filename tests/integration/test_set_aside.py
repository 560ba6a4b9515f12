"""What a worker sets aside, on a real broker: batches that cannot be read, and records that end the process."""

import asyncio
import time
from pathlib import Path

import pytest
from batches import batch, framed, record, send_raw
from cluster import Cluster
from records import dump, event

from app import kafka
from app.conventions import DEAD_LETTER, JOBS
from app.process import environment
from simulators.traffic import Message

pytestmark = pytest.mark.broker

#: What Python runs in a worker before anything else: a stage that a certain record ends.
POISONED = """
from app.core import runs
apply = runs.RunStage.apply
def poisoned(self, batch):
    if any(b"poison" in (record.value or b"") for record in batch.records):
        raise ZeroDivisionError("on purpose")
    return apply(self, batch)
runs.RunStage.apply = poisoned
"""


def started(run):
    return dump(event("started", run, at=time.time()))


@pytest.fixture
def single(bootstrap, tmp_path):
    made = Cluster(bootstrap, tmp_path, partitions=1)
    asyncio.run(made.topics())
    yield made
    made.end()


def dead_letters(cluster):
    """(reason, first offset, value) of every dead letter; one that was written again has the id it had."""
    found = {}
    for letter in asyncio.run(cluster.read(DEAD_LETTER))[0]:
        headers = dict(letter.headers)
        found[headers["id"]] = headers["reason"].decode(), int(headers["offset"]), letter.value
    return list(found.values())


def test_batches_that_cannot_be_read_are_set_aside_and_their_neighbours_are_taken(single):
    bomb = batch(b"".join(record(number, value=b" " * 2**20) for number in range(300)), 300, codec="zstd")
    odd_names, now_ms = [(b"\xff\xfe", b"x")], int(time.time() * 1000)
    named = record(0, b"k", started("named"), odd_names) + record(1, b"k", started("next"))
    half = record(0, b"k", started("half")) + record(0, b"k", started("again"))
    batches = {
        "garbage": (framed(b"garbage", 1, attributes=4), 1),
        "bomb": (bomb, 300),
        "names": (batch(named, 2, at_ms=now_ms), 2),
        "half": (framed(half, 2, at_ms=now_ms), 2),
        "marker": (framed(record(0, b"\0\0\0\1", b"\0" * 6), 1, attributes=0x20), 1),
    }

    async def write():
        producer = await kafka.connected(kafka.producer(single.settings), single.settings)
        topic, written = single.settings.topic(JOBS), {}
        await producer.send_and_wait(topic, started("first"), key=b"k", partition=0)
        for name, (raw, count) in batches.items():
            try:
                written[name] = (await send_raw(producer, topic, 0, raw, count)).offset
            except Exception:
                written[name] = None  # Apache Kafka looks into batches
        await producer.send_and_wait(topic, started("last"), key=b"k", partition=0)
        await producer.stop()
        return written

    written = asyncio.run(write())
    taken = {"first", "last"} | ({"named", "next"} if written["names"] is not None else set())
    taken |= {"half"} if written["half"] is not None else set()
    worker = single.start()
    single.await_(
        lambda: single.total("events_applied") == len(taken) and single.total("lag") <= 4,
        20,
        f"{len(taken)} taken in, {single.statuses()}",
    )
    expected = []
    for name, reason in (("garbage", "corrupt_batch"), ("bomb", "decompression_bomb"), ("half", "corrupt_batch")):
        if written[name] is not None:
            expected.append((reason, written[name] + (name == "half")))
    found = dead_letters(single)
    assert [(reason, offset) for reason, offset, _ in found] == expected
    if written["bomb"] is not None:
        assert next(value for reason, _, value in found if reason == "decompression_bomb")[61:] == bomb[61:]
    assert worker.status()["dead_letters"] == len(expected)
    assert worker.status()["records_set_aside"] == sum(
        {"corrupt_batch": 1, "decompression_bomb": 300}[reason] for reason, _ in expected
    )
    memory = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    peak = next(line for line in memory if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 400 * 1024
    assert worker.alive


def test_a_record_that_ended_the_process_twice_is_set_aside_by_whoever_comes_next(single, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(POISONED)
    inherited = environment(single.settings).get("PYTHONPATH", "")
    given = {"PYTHONPATH": f"{tmp_path}:{inherited}"}
    good = [Message(0.0, JOBS, b"k", started(f"run-{number}")) for number in range(40)]
    poison = Message(0.0, JOBS, b"k", b'{"poison": true}')
    asyncio.run(single.produce([*good[:10], poison, *good[10:30], poison, *good[30:]]))

    def live():
        """Run a worker on a directory of its own until it ends, or has taken in everything."""
        worker = single.start(QETHICS_DATA_DIRECTORY=str(tmp_path / f"life-{len(single.workers)}"), **given)
        single.await_(lambda: not worker.alive or single.total("events_applied") == 40, 60, "an end")
        return worker

    ends = 0
    while not (worker := live()).alive:
        assert worker.process.returncode == 70
        assert "ZeroDivisionError: on purpose" in worker.log.read_text()
        ends += 1
        assert ends <= 4
    assert 3 <= ends <= 4  # both were in one batch at first, and that end counts for both or for one
    letters = dead_letters(single)
    assert [(reason, value) for reason, _, value in letters] == [("poison", b'{"poison": true}')] * 2
    assert single.total("dead_letters") == 2
    assert "are set aside (poison): it ended the process 2 times: ZeroDivisionError" in worker.log.read_text()
