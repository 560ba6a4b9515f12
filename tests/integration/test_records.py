"""What is found about a run in the topics of a real broker, and what is left out."""

import asyncio
import time

import msgspec
import pytest
from cluster import Cluster

from app.conventions import EVIDENCE, JOBS, RESULTS, VIOLATIONS
from app.core.incidents import Incident
from app.core.outcomes import Addendum, Evidence, Violation
from app.paging import capture, records
from simulators.traffic import Message

pytestmark = pytest.mark.broker


@pytest.fixture
def cluster(bootstrap, tmp_path):
    one = Cluster(bootstrap, tmp_path)
    asyncio.run(one.topics())
    return one


def about(cluster, *, since=-60.0, until=60.0, seconds=20.0):
    now = time.time()
    span = {"since": now + since, "until": now + until}
    found = records.about_runs(cluster.settings, (JOBS, RESULTS, EVIDENCE), ["run-1"], **span, seconds=seconds)
    return asyncio.run(found)["run-1"]


def put(cluster, *values):
    """Records as (topic, run, value)."""
    asyncio.run(cluster.produce([Message(0.0, topic, run.encode(), value) for topic, run, value in values]))


def test_what_was_written_about_the_run_in_that_time_is_found_and_nothing_else(cluster):
    put(cluster, (JOBS, "run-1", b"one"), (JOBS, "run-2", b"another"), (RESULTS, "run-1", b"two"))
    found = about(cluster)
    assert sorted((each["topic"], each["value"]) for each in found.records) == [
        (cluster.settings.topic(JOBS), "one"),
        (cluster.settings.topic(RESULTS), "two"),
    ]
    assert (found.left_out, found.is_whole) == (0, True)
    assert about(cluster, since=30.0).records == [], "nothing was written later"
    assert about(cluster, until=-30.0).records == [], "nor so early"


def test_many_results_leave_room_for_the_evidence_and_what_is_left_out_is_counted(cluster, monkeypatch):
    monkeypatch.setattr(records, "_MOST_RECORDS", 10)
    put(cluster, *[(RESULTS, "run-1", b"result")] * 25, (EVIDENCE, "run-1", b"evidence"))
    found = about(cluster)
    assert (len(found.records), found.left_out) == (11, 15)
    assert "evidence" in {each["value"] for each in found.records}
    monkeypatch.setattr(records, "_MOST_BYTES", 20)
    found = about(cluster)
    assert (len(found.records), found.left_out) == (4, 22)


def test_without_the_time_to_read_it_is_not_whole(cluster):
    put(cluster, (JOBS, "run-1", b"one"))
    found = about(cluster, seconds=0.0)
    assert (found.records, found.is_whole) == ([], False)


def evidence(run_id, *, closed="complete", missing=(), last="completed"):
    return msgspec.json.encode(
        Evidence(
            evidence_id=f"evidence-{run_id}",
            run_id=run_id,
            closed=closed,
            complete=closed == "complete",
            fields={},
            missing=dict.fromkeys(missing, "not sent"),
            required=("seed", "code_digest"),
            steps=[("submitted", "2026-01-01T00:00:00Z"), (last, "2026-01-01T00:00:01Z")],
            illegal_transitions=[],
        )
    )


def violation(run_id, rule, mode="enforce"):
    return msgspec.json.encode(
        Violation(
            violation_id=f"{rule}-{run_id}",
            run_id=run_id,
            rule=rule,
            mode=mode,
            severity="page",
            owner="governance",
            control="C1",
            reason="so",
            policy_revision="1",
            input_digest="sha256:0",
            at="2026-01-01T00:00:00Z",
        )
    )


def put_affected(cluster):
    put(
        cluster,
        (VIOLATIONS, "run-1", violation("run-1", "approved_endpoint")),
        (VIOLATIONS, "run-1", violation("run-1", "approved_endpoint")),
        (VIOLATIONS, "run-2", violation("run-2", "shots", "warn")),
        (EVIDENCE, "run-1", evidence("run-1")),
        (EVIDENCE, "run-3", evidence("run-3", closed="incomplete", missing=("seed", "trace_id"))),
        (EVIDENCE, "run-4", evidence("run-4", closed="abandoned", missing=("seed",), last="routed")),
        (EVIDENCE, "run-5", evidence("run-5", last="timed_out")),
        (EVIDENCE, "run-5", msgspec.json.encode(Addendum(evidence_id="e", run_id="run-5", topic=JOBS, event=b"1"))),
        (EVIDENCE, "run-6", b"no JSON"),
    )


def affected(cluster, since=-60.0, seconds=20.0):
    now = time.time()
    found = records.affected(cluster.settings, since=now + since, until=now + 60.0, seconds=seconds)
    return asyncio.run(found)


def test_runs_that_something_is_wrong_with_are_named_once_by_what_it_is(cluster):
    put_affected(cluster)
    found = affected(cluster)
    assert {what: sorted(runs) for what, runs in found.runs.items()} == {
        "abandoned": ["run-4"],
        "ended timed_out": ["run-5"],
        "lacks seed": ["run-3", "run-4"],
        "unreadable in evidence": ["run-6"],
        "violated approved_endpoint": ["run-1"],
        "violated shots (warn)": ["run-2"],
    }
    assert (found.left_out, found.is_whole) == ({}, True)
    assert affected(cluster, since=30.0).runs == {}, "nothing was written later"
    assert not affected(cluster, seconds=0.0).is_whole


def test_of_more_runs_than_are_named_the_rest_is_counted(cluster, monkeypatch):
    monkeypatch.setattr(records, "_MOST_RUNS", 3)
    put(cluster, *[(VIOLATIONS, f"run-{number}", violation(f"run-{number}", "shots")) for number in range(10)])
    found = affected(cluster)
    assert (len(found.runs["violated shots"]), found.left_out) == (3, {"violated shots": 7})


def test_an_incident_that_names_no_run_is_told_by_some_of_each_kind(cluster):
    """What Prometheus fires is about shares: the runs are those that something was wrong with at that time."""
    put_affected(cluster)
    put(cluster, (JOBS, "run-3", b"one"), *[(EVIDENCE, f"more-{n}", evidence("", last="failed")) for n in range(20)])
    read = capture.runs(cluster.settings, capture.affected_runs(cluster.settings))
    found, lacks = asyncio.run(read(Incident(incident_id="one", started_at=time.time())))
    assert (len(found), lacks) == (10, "")
    assert {"run-1", "run-2", "run-3", "run-4", "run-5", "run-6"} <= set(found)
    assert "one" in {each["value"] for each in found["run-3"].records}
    named = Incident(incident_id="one", started_at=time.time(), annotations={"runs": "run-2, run-9"})
    found, lacks = asyncio.run(read(named))
    assert (set(found), lacks) == ({"run-2", "run-9"}, "nothing was found of run-9")
