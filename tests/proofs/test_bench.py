"""The benches run and report every figure; how fast is for a person to read, not for a test to time."""

import json
import os
import sys

import pytest
from command import qethics

pytestmark = [pytest.mark.once, pytest.mark.alone]

FULL = os.environ.get("PROVE") == "full"
SYSTEMS = {"qethics", "faust", "quixstreams", "bytewax", "decode"}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Bytewax has no wheel for Python 3.13")
def test_the_pipeline_bench_reports_every_figure():
    size = [] if FULL else ["--events", "80000", "--repeats", "1", "--open-runs", "100000"]
    done = qethics("bench", "pipeline", "--json", *size, timeout=3000)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    sys.stdout.write("\n" + done.stdout + "\n")
    for name in ("events_per_cpu_second", "events_per_second"):
        assert set(report[name]) == SYSTEMS
        assert min(report[name].values()) > 0
    assert report["open_runs"]["count"] == (1_000_000 if FULL else 100_000)
    assert report["open_runs"]["resident_bytes"] > 0
    assert report["checkpoints"]["recovery_seconds"] > 0
    assert report["tracing"]["spans"] > 0
    assert report["tracing"]["events_per_cpu_second_with"] > 0


def test_the_policy_bench_reports_every_figure():
    size = [] if FULL else ["--runs", "5000", "--seconds", "8"]
    done = qethics("bench", "policy", "--json", *size, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    sys.stdout.write("\n" + done.stdout + "\n")
    assert report["rules"] >= 20
    assert report["decisions"] >= 10_000
    assert report["decisions_per_cpu_second"] > report["new_facts"]["per_cpu_second"] > 0
    assert 0 < report["stream_p50_seconds"] <= report["stream_p99_seconds"]
    assert 0 < report["admission_p50_seconds"] <= report["admission_p99_seconds"]
    assert report["admission_requests"] == (4_000 if FULL else 1_600)
    assert set(report["admission_answers"]) == {"allow", "fallback_classical"}, "each is answered"
    assert report["stream_under_load"]
    assert report["stream_events_applied"] > 10_000
    assert set(report["goals"]) == {"decisions_per_cpu_second", "stream_p99_seconds", "admission_p99_seconds"}
