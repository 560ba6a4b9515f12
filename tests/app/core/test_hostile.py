"""Whatever a record holds, it ends no stage: it is an event, a control record, or a dead letter with its bytes."""

import pytest
from hostile import records
from records import Log, event, lifecycle, result

from app.conventions import JOBS, RESULTS, SAMPLES
from app.core.records import Batch
from app.core.runs import RunStage
from app.core.seal import Seal
from app.core.streams import StreamStage
from app.main import sinks

COUNT = 12_500
BATCH = 250


def batches(topic, count, seed):
    """The records of a topic, cut into batches."""
    found = records(topic, count, seed)
    for first in range(0, count, BATCH):
        yield Batch(topic, 0, first, first + BATCH, found[first : first + BATCH])


def written(outcomes):
    """Everything that the sinks write; it can be written."""
    return {sink.topic: list(sink.lines(outcomes)) for sink in sinks()}


def dead_letters_are_whole(outcomes):
    lines = written(outcomes)["dead-letter"]
    assert len(lines) == len(outcomes.dead_letters)
    for letter, line in zip(outcomes.dead_letters, lines, strict=True):
        assert line.value == letter.record.value
        assert 0 < len(letter.detail) < 600


@pytest.mark.parametrize("topic", RunStage.topics)
@pytest.mark.parametrize("seal", [Seal(), Seal([b"k" * 32])], ids=["unsealed", "sealed"])
def test_no_record_ends_the_run_stage(catalog, policy, topic, seal):
    stage = RunStage(catalog, policy, 1, seal=seal)
    dead = 0
    for batch in batches(topic, COUNT // 2, 1):
        outcomes = stage.apply(batch)
        dead_letters_are_whole(outcomes)
        dead += len(outcomes.dead_letters)
    assert dead == sum(count for key, count in stage.counters.items() if key[0] == "rejected") > 100
    restored = RunStage(catalog, policy, 1, seal=seal)
    restored.restore(stage.snapshot())
    assert restored.snapshot() == stage.snapshot()


@pytest.mark.parametrize("seed", range(2))
def test_no_record_ends_the_stream_stage(catalog, seed):
    stage = StreamStage(catalog, 1)
    dead = 0
    for batch in batches(SAMPLES, COUNT // 2, seed):
        outcomes = stage.apply(batch)
        dead_letters_are_whole(outcomes)
        dead += len(outcomes.dead_letters)
    assert dead == sum(count for key, count in stage.counters.items() if key[0] == "rejected") > 100
    restored = StreamStage(catalog, 1)
    restored.restore(stage.snapshot())
    assert restored.snapshot() == stage.snapshot()


def test_after_all_of_it_a_run_is_taken_as_any(catalog, policy):
    stage, log, evidence = RunStage(catalog, policy, 1), Log(), []
    for topic in RunStage.topics:
        for batch in batches(topic, 2_000, 2):
            stage.apply(batch)
    # Hostile heartbeats are among them: the clock comes back to where honest ones agree.
    for second in range(40):
        for topic in RunStage.topics:
            stage.apply(log.heartbeat(topic, Log.START + second))
    stage.apply(log.batch(JOBS, [*lifecycle("after"), event("cost", "after", event_id="second", amount_usd=1)]))
    stage.apply(log.batch(RESULTS, [result("after")]))
    for second in range(40, 140):
        for topic in RunStage.topics:
            evidence += stage.apply(log.heartbeat(topic, Log.START + second)).evidence
    assert [one.complete for one in evidence if one.run_id == "after" and hasattr(one, "closed")] == [True]
