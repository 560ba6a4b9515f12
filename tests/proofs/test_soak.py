"""The soak: a worker under steady traffic for half an hour holds no more memory, descriptors and threads at its end.

`PROVE=full` is the half hour at 2,000 events a second; `PROVE=bounded` is a minute and a half of it, which shows that
it keeps up, and that descriptors and threads do not grow.
"""

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path
from statistics import median

import pytest
from cluster import Cluster

from app import kafka
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

pytestmark = [pytest.mark.broker, pytest.mark.once, pytest.mark.alone]

FULL = os.environ.get("PROVE") == "full"
SECONDS = 1_800 if FULL else 90
RATE = 2_000
SAMPLE_SECONDS = 10 if FULL else 3
#: Runs are remembered for this long after they closed, so that what is held has reached its level early on.
RETENTION_SECONDS = 240 if FULL else 20
#: The most that it may still have to take in at the end, by what it takes in on a busy machine.
CATCHING_UP_SECONDS = 300
#: Kafka's clients open a connection for a request that may wait, and close one that was idle.
MOST_MORE = {"descriptors": 4, "threads": 2}


def held(process_id):
    """What a process holds now."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return {
        "resident_mib": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024,
        "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
        "descriptors": len(list(Path(f"/proc/{process_id}/fd").iterdir())),
    }


async def publish(cluster):
    """Publish steady traffic, each record at its own time; returns how many there were."""
    producer = await kafka.connected(kafka.producer(cluster.settings, linger_ms=5), cluster.settings)
    traffic = Traffic(SCENARIOS["steady"], seed=1, start=time.time(), rate=RATE, results_per_run=4)
    sent, last = 0, None
    try:
        for message in traffic.for_seconds(SECONDS):
            if message.at > time.time():
                await asyncio.sleep(max(0.01, message.at - time.time()))
            last = await producer.send(
                cluster.settings.topic(message.topic), message.value, key=message.key, headers=[*message.headers]
            )
            sent += 1
        await last
        await producer.flush()
        return sent
    finally:
        await producer.stop()


async def sampled(worker, until):
    """What a worker holds, every few seconds until something is done."""
    samples = []
    while not until.done():
        await asyncio.wait([until], timeout=SAMPLE_SECONDS)
        samples.append(held(worker.process.pid))
    return samples


async def soaked(cluster):
    """Traffic through one worker: how many records were sent and taken in, and what it held meanwhile."""
    await cluster.topics()
    worker = cluster.start()
    await asyncio.to_thread(cluster.await_ready, 180)
    publishing = asyncio.ensure_future(publish(cluster))
    samples = await sampled(worker, publishing)
    sent = publishing.result()

    began = time.monotonic()
    while cluster.taken_in() < sent and time.monotonic() - began < CATCHING_UP_SECONDS:
        await asyncio.sleep(1)
    return sent, cluster.taken_in(), samples


def test_what_a_worker_holds_does_not_grow_under_steady_traffic(bootstrap, tmp_path):
    closing = {"grace_seconds": 5, "closed_retention_seconds": RETENTION_SECONDS}
    cluster = Cluster(bootstrap, tmp_path, partitions=2, closing=closing)
    try:
        sent, taken, samples = asyncio.run(soaked(cluster))
        assert cluster.started == len(cluster.alive()) == 1
    finally:
        cluster.end()
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    levels = {
        name: tuple(round(median(one[name] for one in part), 1) for part in (samples[:third], middle, last))
        for name in samples[0]
    }
    report = {"sent": sent, "taken": taken, "seconds": SECONDS, "thirds": levels}
    sys.stdout.write("\n" + json.dumps(report) + "\n")
    assert taken == sent > 0.9 * RATE * SECONDS
    for name, most in MOST_MORE.items():
        assert levels[name][2] <= levels[name][1] + most, (name, samples)
    if FULL:
        assert levels["resident_mib"][2] <= 1.05 * levels["resident_mib"][1], samples
