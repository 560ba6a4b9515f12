"""Worker, gate and pager as processes, and 20,000 requests of every kind of wrong to their pages: not one fault."""

import asyncio
import os

import pytest
from asking import post
from cluster import Cluster
from mutated import admission, flood, notification, paging, web
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY

pytestmark = pytest.mark.broker

REQUESTS = 20_000 if os.environ.get("PROVE", "full") == "full" else 3_000
TOKEN = "s3cret-token"


@pytest.fixture
def processes(bootstrap, tmp_path):
    """Name -> a process, and the good requests to it."""
    pair, bundle, token = key_pair(tmp_path), tmp_path / "bundle.tar.gz", tmp_path / "token"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 1))
    token.write_text(TOKEN)
    nowhere = "http://127.0.0.1:9"
    cluster = Cluster(
        bootstrap,
        tmp_path,
        policy_bundle=bundle,
        policy_keys=pair.public,
        **dict.fromkeys(("web_token_file", "admission_token_file", "pager_token_file"), token),
        **dict.fromkeys(("alertmanagers", "prometheus_url", "worker_urls"), nowhere),
    )
    asyncio.run(cluster.topics())
    try:
        worker, gate, pager = cluster.start(), cluster.gate(), cluster.pager()
        cluster.await_(lambda: worker.page("/readyz") == "ready\n", 60, "the worker ready")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        (incident_id,) = post(pager, "/v1/alertmanager", notification(), headers)[1]["incidents"]
        yield {"worker": (worker, web()), "gate": (gate, admission()), "pager": (pager, paging(incident_id))}
    finally:
        cluster.end()


def test_no_request_of_any_kind_of_wrong_finds_a_fault_in_a_process(processes):
    for name, (process, good) in processes.items():
        numbers = range(1_000_000, 1_000_000 + REQUESTS // len(processes) + 1)
        found, faults = asyncio.run(flood(process.port, good, TOKEN.encode(), numbers))
        print(name, sum(found.values()), dict(sorted(found.items(), key=str)))  # noqa: T201 - the figures
        assert not faults, faults[:5]
        assert process.alive
        assert process.page("/readyz") == "ready\n"
        said = process.log.read_text()
        assert "a fault of ours" not in said
        assert "Traceback" not in said
        assert os.listdir(f"/proc/{process.process.pid}/fd")
