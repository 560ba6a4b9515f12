"""What pages, as Prometheus and Alertmanager themselves see it."""

import asyncio
import json
import subprocess

import pytest
from cluster import Cluster
from command import qethics
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY

pytestmark = pytest.mark.once


@pytest.mark.broker
def test_promtool_finds_nothing_in_the_metrics_of_any_process(bootstrap, tmp_path):
    pair, bundle = key_pair(tmp_path), tmp_path / "bundle.tar.gz"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 5))
    cluster = Cluster(bootstrap, tmp_path, policy_bundle=bundle, policy_keys=pair.public)
    try:
        asyncio.run(cluster.topics())
        cluster.start()
        gate, pager = cluster.gate(), cluster.pager()
        cluster.await_ready()
        for process in (cluster.workers[0], gate, pager):
            page = process.page("/metrics")
            assert page.count("# HELP qethics_") > 5
            done = subprocess.run(
                ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout + done.stderr) == (0, "")
    finally:
        cluster.end()


def test_prometheus_and_alertmanager_take_every_file_and_every_rule_s_test_passes():
    done = qethics("rules", "check", "--json", timeout=900)
    checks = {each["what"]: (each["ok"], each["detail"]) for each in json.loads(done.stdout)["checks"]}
    assert checks == {
        "rules are those of the objectives": (True, "10 objectives"),
        "promtool check rules": (True, "0 findings"),
        "promtool check config": (True, "0 findings"),
        "promtool test rules": (True, "0 findings"),
        "amtool check-config": (True, "0 findings"),
    }
    assert done.returncode == 0
