"""Hostile records through a real worker: it does not end, and every one of them is accounted for by name.

`PROVE=full` is 200,000 records, `PROVE=bounded` 20,000, mixed with real traffic. What must become a dead letter is
said by `tests/support/contract.py`, which reads the contract by the `json` module and knows nothing of `app`; what
depends on what came before, by one process that takes the same logs in.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import contract
import hostile
import pytest
from chaos import expected_counters
from cluster import Cluster, logs_of, oracle_of
from sent import Intended, letters_of, placed

from app.conventions import ADMISSIONS, JOBS, RESULTS, SAMPLES
from simulators.scenarios import SCENARIOS
from simulators.traffic import Message, Traffic

pytestmark = [pytest.mark.broker, pytest.mark.alone]
FULL = os.environ.get("PROVE") == "full"
COUNT = 200_000 if FULL else 20_000
SHARES = {JOBS: 0.5, RESULTS: 0.35, ADMISSIONS: 0.1, SAMPLES: 0.05}
#: A worker of two partitions holds some 200 MiB without them; what is fetched may become 16 MiB a batch.
MOST_MIB = 1_000
#: No run closes meanwhile: the same few ids are used in all of the traffic, so what comes after a closing would depend
#: on how far each log was read by then. Closings are the chaos proof's, and of `tests/app/core/test_hostile.py`.
_WAITS = ("grace_seconds", "deadline_seconds", "settle_seconds", "sequence_grace_seconds")
CLOSING = dict.fromkeys(_WAITS, 3600)
#: A larger record is refused by a broker's own limit.
_MOST_BYTES = 1_000_000


def made(count, seed):
    """Hostile records and some real traffic, mixed."""
    found = []
    for topic, share in SHARES.items():
        for each in hostile.records(topic, round(count * share), seed, int(time.time() * 1000)):
            if len(each.value or b"") + sum(len(text or b"") for _, text in each.headers) < _MOST_BYTES:
                # A record has a key or a value.
                key = each.key or b"" if each.value is None else each.key
                found.append(Intended(Message(0.0, topic, key, each.value, each.headers)))
    traffic = Traffic(SCENARIOS["steady"], seed=seed, start=time.time(), rate=1_000)
    found += map(Intended, traffic.runs(count // 130))
    random.Random(seed).shuffle(found)
    return found


def peak_mib(worker):
    """The most memory that a process has held."""
    lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def is_drained(worker):
    """Whether nothing waits but the last heartbeats of each log; also when it has ended, for that is looked at next."""
    return not worker.alive or worker.status()["lag"] <= 2 * len(SHARES)


async def taken_in(cluster, intended):
    """Have one worker take in the records; returns it and where they stand."""
    await cluster.topics()
    worker = cluster.start()
    await asyncio.to_thread(cluster.await_ready, 180)
    metadata = await cluster.produce([one.message for one in intended], compression_type="gzip")
    for _ in range(2):  # what was fetched before the end of a log was known counts for nothing
        await asyncio.to_thread(cluster.await_, lambda: is_drained(worker), 900, "everything taken in")
        await asyncio.sleep(2)
    assert worker.alive, worker.log.read_text()[-2_000:]
    return worker, placed(intended, metadata, {cluster.settings.topic(name): name for name in SHARES})


def test_hostile_records_end_no_worker_and_each_is_accounted_for(bootstrap, tmp_path):
    key = tmp_path / "control.key"
    key.write_text(random.Random(1).randbytes(32).hex())
    cluster = Cluster(bootstrap, tmp_path, partitions=2, closing=CLOSING, control_key_file=key)
    try:
        worker, sent = asyncio.run(taken_in(cluster, made(COUNT, 1)))
        at, found = time.time(), cluster.counters()
        oracle = oracle_of(cluster, asyncio.run(logs_of(cluster, until=at)))
        expected = expected_counters(oracle)
        letters, memory = asyncio.run(letters_of(cluster)), peak_mib(worker)
    finally:
        cluster.end()
    verdicts = {
        one.place: contract.refused(one.topic, one.message.value, one.message.headers or (), time.time())
        for one in sent
    }
    stateless = {place: reason for place, (reason, _) in letters.items() if reason not in contract.BY_STATE}
    must, may_not = ({place for place, bad in verdicts.items() if bad is wanted} for wanted in (True, False))
    report = {
        "records": len(sent),
        "by_topic": Counter(one.topic for one in sent),
        "dead_letters": len(letters),
        "reasons": Counter(reason for reason, _ in letters.values()),
        "counted_apart": {"refused": len(must), "taken": len(may_not), "not_known": len(sent) - len(must | may_not)},
        "counters": len(expected),
        "peak_mib": round(memory),
    }
    sys.stdout.write("\n" + json.dumps(report) + "\n")
    assert must <= stateless.keys(), [place for place in must if place not in stateless][:5]
    assert not may_not & stateless.keys(), [(place, stateless[place]) for place in may_not & stateless.keys()][:5]
    assert {place: reason for place, (reason, _) in letters.items()} == oracle.dead_letters
    assert all(letters[one.place][1] == one.message.value for one in sent if one.place in letters)
    differences = {name: (found[name], expected[name]) for name in found | expected if found[name] != expected[name]}
    assert not differences, differences
    events = sum(value for (name, _), value in found.items() if name in {"qethics_events_applied_total"})
    repeats = sum(value for (name, _), value in found.items() if name == "qethics_duplicates_total")
    refused = sum(place[0] in (JOBS, RESULTS) for place in letters)
    assert events + repeats + refused == sum(one.topic in (JOBS, RESULTS) for one in sent)
    assert memory < MOST_MIB
