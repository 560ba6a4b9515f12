"""Real workers on a real broker, through the front door: topics in, topics and pages out."""

import asyncio
import json
import signal
import time

import numpy as np
import pytest
from cluster import Cluster
from command import one_line, qethics
from prometheus_client.parser import text_string_to_metric_families
from records import SUBMITTED, dump, event, lifecycle, result

from app.conventions import ALERTS, DEAD_LETTER, EVIDENCE, JOBS, RESULTS, VIOLATIONS
from app.core.decode import MAX_BYTES
from simulators.traffic import Message

pytestmark = pytest.mark.broker


def messages(*jobs, results=()):
    made = [Message(0.0, JOBS, value["run_id"].encode(), dump(value)) for value in jobs]
    return made + [Message(0.0, RESULTS, value["run_id"].encode(), dump(value)) for value in results]


def taken(cluster, count):
    return lambda: cluster.taken_in() >= count


NOW = time.time()
NESTED = b'{"type":"started","x":' + b"[" * 64 + b"]" * 64 + b"}"
BAD = [
    ("truncated", JOBS, dump(event("started"))[:-5], "malformed_json"),
    ("not UTF-8", JOBS, b'{"type":"\xff"}', "not_utf8"),
    ("too large", JOBS, b'"' + b"x" * (MAX_BYTES - 1) + b'"', "too_large"),
    ("nesting 65", JOBS, NESTED, "too_deep"),
    ("NaN", JOBS, dump(event("cost"))[:-1] + b',"amount_usd":NaN}', "non_finite"),
    ("Infinity", JOBS, dump(event("cost"))[:-1] + b',"amount_usd":Infinity}', "non_finite"),
    ("negative counts", RESULTS, dump(result(counts={"0": -1, "1": 101})), "invalid_field"),
    ("wrong sum", RESULTS, dump(result(counts={"0": 99})), "counts_mismatch"),
    ("unknown type", JOBS, dump(event("exploded")), "unknown_type"),
    ("unknown version", JOBS, dump(event("started", schema_version=7)), "unknown_schema_version"),
    ("missing run_id", JOBS, dump({k: v for k, v in event("started").items() if k != "run_id"}), "missing_field"),
    ("run_id of 10 kB", JOBS, dump(event("started", "r" * 10_000)), "invalid_field"),
    ("year 9999", JOBS, dump({**event("started"), "at": "9999-12-31T23:59:59Z"}), "time_out_of_range"),
    ("null", JOBS, None, "null_value"),
    ("empty", JOBS, b"", "empty_value"),
]


def test_bad_input_goes_to_the_dead_letter_topic_with_its_bytes_and_the_flow_goes_on(cluster):
    cluster.start()
    cluster.await_ready()
    sent = [Message(0.0, topic, name.encode(), value) for name, topic, value, _ in BAD]
    good = messages(*lifecycle(at=NOW), results=[result(at=NOW)])
    asyncio.run(cluster.produce([*good[:4], *sent, *good[4:]]))
    cluster.await_(taken(cluster, len(sent) + len(good)), 30, "everything taken in")
    assert cluster.total("events_applied") == len(good)
    letters = {
        record.key.decode(): record for records in asyncio.run(cluster.read(DEAD_LETTER)).values() for record in records
    }
    originals = {
        (record.topic, record.partition, record.offset): record.value
        for name in (JOBS, RESULTS)
        for records in asyncio.run(cluster.read(name)).values()
        for record in records
    }
    for name, topic, value, reason in BAD:
        headers = {key: text.decode() for key, text in letters[name].headers}
        assert reason == headers["reason"], name
        assert value == letters[name].value or (value is None and letters[name].value is None), name
        place = cluster.settings.topic(headers["topic"]), int(headers["partition"]), int(headers["offset"])
        assert topic == headers["topic"]
        assert value == originals[place], name
        assert int(headers["received_at"]) > 0


def test_records_in_every_compression_are_taken_in(cluster):
    cluster.start()
    cluster.await_ready()
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        asyncio.run(cluster.produce(messages(*lifecycle(f"run-{codec}", at=NOW)), compression_type=codec))
    cluster.await_(taken(cluster, 28), 30, "everything taken in")
    assert cluster.total("events_applied") == 28


def test_violations_and_evidence_reach_their_topics(cluster):
    cluster.start()
    cluster.await_ready()
    bad = lifecycle("run-bad", at=NOW, routed={"endpoint": "nowhere"})
    good = lifecycle("run-good", at=NOW)
    asyncio.run(cluster.produce(messages(*bad, *good, results=[result("run-bad", at=NOW), result("run-good", at=NOW)])))
    cluster.await_(lambda: cluster.total("open_runs") == 0 and cluster.total("events_applied") == 16, 40, "runs close")
    (violation,) = asyncio.run(cluster.values(VIOLATIONS))
    assert (violation["run_id"], violation["rule"]) == ("run-bad", "approved_endpoint")
    assert violation["severity"] == "critical"
    evidence = {value["run_id"]: value for value in asyncio.run(cluster.values(EVIDENCE))}
    assert set(evidence) == {"run-good", "run-bad"}
    assert all(value["complete"] for value in evidence.values())


def test_the_pages_of_a_worker(cluster):
    worker = cluster.start()
    cluster.await_(lambda: worker.page("/healthz") == "ok\n", 30, "health")
    cluster.await_(lambda: worker.page("/readyz") == "ready\n", 30, "ready")
    asyncio.run(cluster.produce(messages(*lifecycle(at=NOW), results=[result(at=NOW)])))
    cluster.await_(taken(cluster, 8), 30, "everything taken in")
    status = worker.status()
    assert list(status["sli"]) == [f"M{number}" for number in range(1, 11)]
    assert status["sli"]["M7"]["ratio"] is None
    assert status["sli"]["M7"]["reason"]
    page = worker.page("/")
    for text in ("M1", "lag", "dead letters", "last checkpoint", "policy_revision", "Fidelity"):
        assert text in page
    assert worker.page("/table") is None
    assert worker.page("/router") is None
    # A partition is shown once a heartbeat says that it has taken in what was there.
    cluster.await_(lambda: "qethics_catching_up_units 0.0" in worker.page("/metrics"), 30, "every partition shown")
    families = {family.name: family for family in text_string_to_metric_families(worker.page("/metrics"))}
    samples = families["qethics_events_applied"].samples
    assert sum(sample.value for sample in samples if sample.labels["topic"] == "jobs") == 7
    for name, family in families.items():
        assert len(family.samples) <= 100, f"{name} has {len(family.samples)} series"
        assert not {"run_id", "event_id"} & {label for sample in family.samples for label in sample.labels}
    assert {sample.labels["tier"] for sample in families["qethics_provenance_completeness_valid"].samples} == {
        "low",
        "medium",
        "high",
        "unknown",
    }


def test_sigterm_makes_everything_durable_and_leaves_within_10_seconds(cluster):
    worker = cluster.start()
    cluster.await_ready()
    asyncio.run(cluster.produce(messages(*lifecycle(at=NOW)[:3])))
    cluster.await_(taken(cluster, 3), 30, "everything taken in")
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.process.wait(15) == 0
    assert time.monotonic() - began < 10
    cluster.start()
    cluster.await_ready()
    assert cluster.total("events_applied") == 3
    assert cluster.total("open_runs") == 1


def test_a_second_worker_shares_the_partitions_and_no_total_is_reset(cluster):
    cluster.start()
    cluster.await_ready()
    made = [value for number in range(40) for value in lifecycle(f"run-{number}", at=NOW)]
    asyncio.run(cluster.produce(messages(*made)))
    cluster.await_(taken(cluster, len(made)), 30, "everything taken in")
    cluster.start()
    cluster.await_(
        lambda: len(cluster.statuses()) == 2 and all(s["partitions"] for s in cluster.statuses()), 60, "both"
    )
    cluster.await_ready()
    assert cluster.total("events_applied") == len(made)
    assert sum(status["sli"]["M5"]["valid"] for status in cluster.statuses()) == 40


SABOTAGE = """
import os
if "SABOTAGE" in os.environ:
    from app.core import runs
    whole = runs.RunStage.apply
    def apply(stage, batch):
        outcomes = whole(stage, batch)
        if stage.counters["applied", "jobs"] > 4:
            raise ArithmeticError("a defect that no input explains")
        return outcomes
    runs.RunStage.apply = apply
"""


def test_a_defect_ends_the_worker_before_another_record_is_taken_and_nothing_is_lost(cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    worker = cluster.start(PYTHONPATH=str(tmp_path), SABOTAGE="1")
    cluster.await_ready()
    asyncio.run(cluster.produce(messages(*lifecycle(at=NOW), results=[result(at=NOW)])))
    cluster.await_(lambda: not worker.alive, 30, "the worker ends itself")
    assert worker.process.returncode == 70
    assert "a defect that no input explains" in worker.log.read_text()
    cluster.start()
    cluster.await_(taken(cluster, 8), 40, "its successor takes everything in")
    assert (cluster.total("events_applied"), cluster.total("duplicates")) == (8, 0)


def test_status_is_json_without_surprises(cluster):
    worker = cluster.start()
    cluster.await_ready()
    text = worker.page("/status.json")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_what_is_missing_because_its_event_was_lost_says_so(bootstrap, tmp_path):
    cluster = Cluster(bootstrap, tmp_path, closing={"sequence_grace_seconds": 1, "grace_seconds": 10})
    asyncio.run(cluster.topics())
    try:
        cluster.start()
        cluster.await_ready()
        jobs = [{**value, "seq": number} for number, value in enumerate(lifecycle(at=NOW))]
        asyncio.run(cluster.produce(messages(*(value for value in jobs if value["type"] != "routed"))))
        cluster.await_(lambda: cluster.total("events_lost") == 1, 30, "the gap found")
        cluster.await_(lambda: evidence_of(cluster, "run-1"), 30, "the run closed")
        missing = evidence_of(cluster, "run-1")["missing"]
        assert missing["endpoint"].startswith("lost: no routed arrived")
        assert missing["endpoint"].endswith("sequence numbers of test")
    finally:
        cluster.end()


def evidence_of(cluster, run_id):
    records = [json.loads(record.value) for found in asyncio.run(cluster.read(EVIDENCE)).values() for record in found]
    return next((record for record in records if record["run_id"] == run_id), None)


def test_sigterm_while_the_group_is_forming_ends_the_worker(cluster):
    worker = cluster.start()
    cluster.await_(lambda: worker.page("/healthz"), 30, "the pages")
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.process.wait(15) == 0, worker.log.read_text()
    assert time.monotonic() - began < 10


def job_of(number, wrong, rng):
    """A result of a GHZ state of five qubits; `wrong` of its shots have qubit 0 read wrongly."""
    flipped, left = int(rng.binomial(1000, wrong)), int(rng.binomial(450, 0.5)) + 250
    counts = {"00000": left, "11111": 1000 - left - flipped, "11110": flipped}
    return result(f"drift-{number}", at=NOW - 36_000 + 60 * number, shots=1000, counts=counts)


def test_a_drift_is_said_on_its_topic_and_ended_by_a_new_baseline_from_the_command_line(cluster):
    cluster.start()
    cluster.await_ready()
    rng = np.random.default_rng(21)
    jobs = [job_of(number, 0.02 if number < 260 else 0.12, rng) for number in range(320)]
    # One key: the order in which partitions are read is not that of time, and here a change has its place in time.
    asyncio.run(cluster.produce([Message(0.0, RESULTS, b"device", dump(job)) for job in jobs]))
    cluster.await_(taken(cluster, 320), 40, "everything taken in")

    def alerts(name):
        return [alert for alert in asyncio.run(cluster.values(ALERTS)) if alert["name"].startswith(name)]

    cluster.await_(lambda: alerts("Fidelity") and alerts("ErrorRate"), 30, "the alerts of the drift")
    (fell,), (rose,) = alerts("Fidelity"), alerts("ErrorRate")
    assert (fell["notes"]["direction"], rose["notes"]["direction"]) == ("down", "up")
    assert rose["figures"]["size_low"] < 0.1 < rose["figures"]["size_high"]
    assert "11110 0.02" in fell["notes"]["moved"]
    assert len(fell["run_ids"]) == 8

    stream = ("--workload", "route-planning", "--backend", "ibm_fez", "--by", "ana", "--reason", "a new chip")
    for signal_name in ("fidelity", "error_rate"):
        done = qethics("rebaseline", *stream, "--signal", signal_name, **cluster.settings.environment())
        assert done.returncode == 0, done.stderr
    cluster.await_(lambda: len(alerts("Baseline")) == 2, 30, "the act, recorded")
    assert {(act["notes"]["by"], act["figures"]["watches"]) for act in alerts("Baseline")} == {("ana", 1.0)}
    ends = [alert for alert in alerts("Fidelity") + alerts("ErrorRate") if alert["status"] == "resolved"]
    assert {end["fingerprint"] for end in ends} == {fell["fingerprint"], rose["fingerprint"]}
    one_line(qethics("rebaseline", *stream, "--signal", "mood", **cluster.settings.environment()), "no signal 'mood'")
    who = ("--by", "jane", "--reason", "a campaign")
    of_center = ("rebaseline", "--cost-center")
    one_line(qethics(*of_center, "nobody", *who, **cluster.settings.environment()), "no cost center 'nobody'")
    one_line(qethics(*of_center, "lending", *stream, **cluster.settings.environment()), "which baseline is meant")
    done = qethics(*of_center, "lending", *who, **cluster.settings.environment())
    assert done.returncode == 0, done.stderr


LOOPS = """# METADATA
# title: Loops
# description: For well over ten seconds, where a run asks for it.
# custom: {severity: low, owner: nobody, control: T-1, remediation: none, runbook: "https://example.org/"}
package qethics.rules.run.loops

import rego.v1

deny contains "found" if {
	input.run.feature == "loop"
	some a in numbers.range(1, 5000)
	some b in numbers.range(1, 5000)
	a * b == 26000000
}
"""


def test_a_rule_that_loops_denies_its_run_and_stops_neither_stream_nor_heartbeats(bootstrap, tmp_path):
    cluster = Cluster(bootstrap, tmp_path, closing={"settle_seconds": 2}, session_timeout_seconds=6)
    (cluster.settings.policies / "rules" / "loops.rego").write_text(LOOPS)
    asyncio.run(cluster.topics())
    try:
        worker = cluster.start()
        cluster.await_ready()
        for number in range(4):
            bad = lifecycle(f"run-loop-{number}", at=NOW, submitted={"feature": "loop", "shots": 1000 + number})
            good = [lifecycle(f"run-{number}-{each}", at=NOW) for each in range(5)]
            asyncio.run(cluster.produce(messages(*bad, *(step for run in good for step in run))))
        cluster.await_(taken(cluster, 4 * 6 * 7), 20, "everything taken in")
        found = asyncio.run(cluster.values(VIOLATIONS))
        assert {violation["rule"] for violation in found} == {"policy_error"}
        assert {f"run-loop-{number}" for number in range(4)} <= {violation["run_id"] for violation in found}
        assert any("no decision within 0.15 s" in violation["reason"] for violation in found)
        assert worker.alive
        assert worker.page("/healthz") == "ok\n"
        # Whoever misses its heartbeats loses its partitions and restores them.
        assert worker.log.read_text().count("restored") == 1
    finally:
        cluster.end()


def test_a_counter_of_a_restarted_worker_never_falls(bootstrap, tmp_path):
    """Prometheus takes a counter that falls for one that began anew, and would count its whole value again."""
    cluster = Cluster(bootstrap, tmp_path, checkpoint_seconds=4.0)
    asyncio.run(cluster.topics())
    shown = []

    def look():
        found = [(key, value) for key, value in cluster.counters().items() if key[0] == "qethics_events_applied_total"]
        shown.append(dict(found))
        return sum(shown[-1].values())

    try:
        cluster.start()
        cluster.await_(lambda: cluster.total("open_runs") == 0 and len(cluster.statuses()) == 1, 30, "ready")
        for number in range(6):
            sent = [event("submitted", f"run-{number}-{index}", at=NOW, **SUBMITTED) for index in range(50)]
            asyncio.run(cluster.produce(messages(*sent)))
            cluster.await_(lambda number=number: look() == 50 * (number + 1), 30, "shown")
            if number in {1, 3}:
                cluster.workers[-1].send(signal.SIGKILL)
                cluster.start()
    finally:
        cluster.end()
    for key in {key for found in shown for key in found}:
        values = [found[key] for found in shown if key in found]
        assert values == sorted(values), key
