"""The exactness proof, small: a kill, a join and a stop under traffic. The whole of it is in `tests/proofs`."""

import asyncio

import pytest
from chaos import CLOSING, is_exact, prove
from cluster import Cluster

pytestmark = pytest.mark.broker

HURT = {"kills": 1, "terms": 1, "joins": 1, "stops": 0, "engines": 5}


def test_totals_and_ids_are_those_of_one_process_that_never_crashed(bootstrap, tmp_path):
    cluster = Cluster(bootstrap, tmp_path, closing=CLOSING)
    try:
        report = asyncio.run(prove(cluster, events=30_000, rate=3000, seed=5, **HURT, say=lambda text: None))
    finally:
        cluster.end()
    is_exact(report)
    assert report["evidence"]["expected"] > 2000
    assert max(report["term_seconds"]) < 10
