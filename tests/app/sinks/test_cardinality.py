"""Whatever producers name, no metric grows: label values are the catalog's, and what is not in it is `other`."""

import json
import os
import re
from collections import Counter

import msgspec
import pytest
from collecting import Publisher, Shell
from prometheus_client import CollectorRegistry, generate_latest
from records import SUBMITTED, Log, event, result

from app.conventions import JOBS, RESULTS, SAMPLES
from app.core.runs import RunStage
from app.core.streams import StreamStage
from app.sinks.metrics import StageCollector

#: Distinct workloads, backends and the rest; events in all.
NAMES, EVENTS = (10_000, 999_000) if os.environ.get("PROVE") == "full" else (3_000, 18_000)


def storm(number):
    """A run of which everything that a producer may name is new."""
    name, run = f"name-{number % NAMES}", f"run-{number}"
    yield (
        JOBS,
        event("submitted", run, seq=number, **{**SUBMITTED, "workload": name, "cost_center": name, "tier": "high"}),
    )
    yield (
        JOBS,
        event("routed", run, seq=number, provider=name, endpoint=name, region=name, backend=name, runtime="quantum"),
    )
    yield JOBS, event("cost", run, seq=number, amount_usd=0.01)
    yield JOBS, event("decision", run, seq=number, outcome=name, acted_on=True, explanation=None)
    yield JOBS, event("timed_out", run, seq=number, error=name)
    yield (
        RESULTS,
        result(run, seq=number, workload=name, backend=name, provider=name, calibration_id=name, ideal_id=name),
    )


@pytest.fixture(scope="module")
def page(catalog, policy):
    partitions = 4
    shell = Shell(catalog, policy, partitions)
    units = shell.units
    logs = [Log(partition) for partition in range(partitions)]
    runs = EVENTS // 6
    for partition in range(partitions):
        stage: RunStage = units["runs", partition].stage
        last = (partition + 1) * runs // partitions
        for first in range(partition * runs // partitions, last, 250):
            sent = {JOBS: [], RESULTS: []}
            for number in range(first, min(first + 250, last)):
                for topic, value in storm(number):
                    sent[topic].append(json.dumps(value).encode())
            for topic, values in sent.items():
                outcomes = stage.apply(logs[partition].batch(topic, values))
                for target, pack in outcomes.packs.items():
                    other: StreamStage = units["streams", target].stage
                    other.apply(logs[target].batch(SAMPLES, [msgspec.msgpack.encode(pack)]))
        for topic in RunStage.topics:
            stage.apply(logs[partition].heartbeat(topic, Log.START + 1))
    for partition in range(partitions):
        units["streams", partition].stage.apply(logs[partition].heartbeat(SAMPLES, Log.START + 1))
    registry = CollectorRegistry()
    registry.register(StageCollector(shell, Publisher(), lambda: {}, catalog, {"version": "1"}))
    return generate_latest(registry).decode()


def test_no_metric_has_more_than_a_hundred_series(page, policy):
    counts = Counter(re.split(r"[{ ]", line)[0] for line in page.splitlines() if line and line[0] != "#")
    applied = sum(
        float(line.split()[-1]) for line in page.splitlines() if line.startswith("qethics_events_applied_total")
    )
    assert applied == EVENTS // 6 * 6
    assert {name: count for name, count in counts.items() if count > 100} == {}
    # One series a rule, however many partitions there are.
    assert counts["qethics_policy_violations_total"] == len(policy.rules)


def test_no_label_holds_what_a_producer_named_or_an_id(page):
    for text in ("name-", "run-", "submitted-"):
        assert text not in page
