"""What is found about a run in the topics of a real broker, and what is left out."""

import asyncio
import time

import pytest
from cluster import Cluster

from app.conventions import EVIDENCE, JOBS, RESULTS
from app.paging import records
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
