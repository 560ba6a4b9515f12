"""What pages, as Prometheus and Alertmanager themselves see it."""

import asyncio
import json
import subprocess

import pytest
from cluster import Cluster
from command import qethics
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY
from app.gameday.servers import alertmanager, prometheus

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


@pytest.mark.broker
def test_the_doctor_says_what_runs_of_a_deployment_and_what_to_do_about_what_does_not(bootstrap, tmp_path):
    told = alertmanager(tmp_path, {})
    rules = prometheus(tmp_path, {"127.0.0.1:9093": told.url.removeprefix("http://")})
    cluster = Cluster(bootstrap, tmp_path, alertmanagers=told.url, prometheus_url=rules.url)

    def findings(**environment):
        done = qethics("doctor", "--json", **{**cluster.settings.environment(), **environment})
        return {each["what"].split()[0]: each for each in json.loads(done.stdout)}, done.returncode

    try:
        found, code = findings()
        missing = {what for what, each in found.items() if each["needed"] and not each["ok"]}
        assert (missing, code) == ({"kafka", "worker", "pager", "alertmanager", "prometheus"}, 1)
        assert "QETHICS_ALERTMANAGERS" in found["alertmanager"]["detail"]
        asyncio.run(cluster.topics())
        for server in (told, rules):
            server.start()
        worker, pager = cluster.start(), cluster.pager()
        cluster.await_ready()
        runs = {"QETHICS_WORKER_URLS": f"http://127.0.0.1:{worker.port}", "QETHICS_PAGER_PORT": str(pager.port)}

        def well():
            found, code = findings(**runs)
            return (all(each["ok"] for each in found.values() if each["needed"]), code) == (True, 0)

        cluster.await_(well, 30, "Prometheus has found its Alertmanager")
        detail = findings(**runs)[0]["prometheus"]["detail"]
        assert detail.startswith("ready, ")
        assert detail.endswith("tells 1 Alertmanagers")
    finally:
        cluster.end()
        for server in (told, rules):
            server.stop()


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
