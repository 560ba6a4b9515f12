"""The exactness proof: totals, violation ids and evidence ids of a group under chaos equal those of one process.

`PROVE=full` is the whole of it (200,000 events, 6 kills, 2 terminations, 3 joins, 1 stop past the session time-out; on
Apache Kafka also a kill -9 of the broker); `PROVE=bounded` has every kind of event with less traffic.
"""

import asyncio
import json
import os
import sys

import pytest
from chaos import CLOSING, is_exact, prove
from cluster import Cluster

pytestmark = [pytest.mark.broker, pytest.mark.alone]

FULL = os.environ.get("PROVE") == "full"
SIZE = (
    {"events": 200_000, "kills": 6, "terms": 2, "joins": 3, "stops": 1, "engines": 60}
    if FULL
    else {"events": 80_000, "kills": 3, "terms": 1, "joins": 2, "stops": 1, "engines": 25}
)
SEEDS = (1, 2) if FULL else (1,)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_under_chaos_is_exact(request, bootstrap, tmp_path, seed):
    extra = []
    if os.environ.get("QETHICS_TEST_BROKER") == "apache":
        broker = request.getfixturevalue("apache")

        async def kill_the_broker():
            broker.kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(broker.start)

        extra = [(SIZE["events"] / 4000 * 0.5, kill_the_broker)]
    cluster = Cluster(bootstrap, tmp_path, closing=CLOSING)
    try:
        report = asyncio.run(prove(cluster, rate=4000, seed=seed, extra=extra, **SIZE))
    finally:
        cluster.end()
    sys.stdout.write(
        "\n" + json.dumps({**report, "differences": {str(k): v for k, v in report["differences"].items()}}) + "\n"
    )
    assert report["events"] >= SIZE["events"]
    is_exact(report)
    assert report["evidence"]["expected"] > SIZE["events"] / 15
    assert max(report["term_seconds"]) < 10
    assert report["actions"]["engine"] == SIZE["engines"]
    assert report["violations"]["unanswered"] > 0
    assert report["sent"]["conflicting_duplicate"] > SIZE["events"] / 200
    assert report["sent"]["hostile dead letters"] > 0
