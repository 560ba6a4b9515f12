"""The benches run and report every figure; how fast is for a person to read, not for a test to time."""

import json
import os
import subprocess
import sys

import pytest

FULL = os.environ.get("PROVE") == "full"
SYSTEMS = {"qethics", "faust", "quixstreams", "bytewax", "decode"}


@pytest.mark.skipif(
    os.environ.get("QETHICS_TEST_BROKER") == "apache", reason="the bench brings its own broker; once is enough"
)
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Bytewax has no wheel for Python 3.13")
def test_the_pipeline_bench_reports_every_figure():
    size = [] if FULL else ["--events", "80000", "--repeats", "1", "--open-runs", "100000"]
    done = subprocess.run(
        [sys.executable, "-m", "app", "bench", "pipeline", "--json", *size],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    sys.stdout.write("\n" + done.stdout + "\n")
    for name in ("events_per_cpu_second", "events_per_second"):
        assert set(report[name]) == SYSTEMS
        assert min(report[name].values()) > 0
    assert report["open_runs"]["count"] == (1_000_000 if FULL else 100_000)
    assert report["open_runs"]["resident_bytes"] > 0
    assert report["checkpoints"]["recovery_seconds"] > 0


@pytest.mark.skipif(os.environ.get("QETHICS_TEST_BROKER") == "apache", reason="it needs no broker; once is enough")
def test_the_policy_bench_reports_every_figure():
    size = [] if FULL else ["--runs", "5000"]
    done = subprocess.run(
        [sys.executable, "-m", "app", "bench", "policy", "--json", *size],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    sys.stdout.write("\n" + done.stdout + "\n")
    assert report["rules"] >= 20
    assert report["decisions"] >= 10_000
    assert report["decisions_per_cpu_second"] > report["new_facts"]["per_cpu_second"] > 0
    assert 0 < report["stream_p50_seconds"] <= report["stream_p99_seconds"]
    assert set(report["goals"]) == {"decisions_per_cpu_second", "stream_p99_seconds"}
