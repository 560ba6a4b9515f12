"""Laws of the sinks: the same outcomes give the same records, nothing of a batch is left out, failures are counted."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from records import Log, Record, lifecycle, result

from app.conventions import JOBS, RESULTS
from app.core.decode import Reason
from app.core.outcomes import Alert, DeadLetter, Directive, Gap, Outcomes, ReplayRequest
from app.core.runs import RunStage
from app.main import sinks
from app.sinks.topic import Publisher

SINKS = sinks()
every = pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink.topic)


@pytest.fixture
def outcomes(catalog, policy):
    stage, log = RunStage(catalog, policy, 4), Log()
    for second in (1, 2):
        for topic in RunStage.topics:
            stage.apply(log.heartbeat(topic, Log.START + second))
    bad = lifecycle("run-bad", routed={"endpoint": "nowhere"})
    found = stage.apply(log.batch(JOBS, [*bad, b"{"]))
    stage.apply(log.batch(RESULTS, [result("run-bad")]))
    later = Outcomes()
    for second in range(3, 20):
        for topic in RunStage.topics:
            more = stage.apply(log.heartbeat(topic, Log.START + second))
            later.evidence += more.evidence
    found.evidence += later.evidence
    found.alerts.append(
        Alert(
            alert_id="1", fingerprint="f", name="n", severity="ticket", status="firing", at="t", labels={},
            summary="s", figures={},
        )
    )  # fmt: skip
    found.gaps.append(Gap(1, "producer"))
    found.directives.append(
        Directive(directive_id="1", directive="d", target="t", reason="r", issued_at="i", expires_at="e")
    )
    found.replay_requests.append(
        ReplayRequest(
            request_id="1", run_id="r", workload="w", tier="high", circuit_digest=None, seed=1, shots=1, backend="b",
            at="t", chosen_by="seed",
        )
    )  # fmt: skip
    return found


def counts(outcomes):
    return {
        "dead-letter": len(outcomes.dead_letters),
        "samples": len(outcomes.packs),
        "violations": len(outcomes.violations),
        "decisions": len(outcomes.decisions),
        "evidence": len(outcomes.evidence),
        "alerts": len(outcomes.alerts),
        "jobs": len(outcomes.gaps),
        "directives": len(outcomes.directives),
        "replay-requests": len(outcomes.replay_requests),
    }


@every
def test_one_record_for_each_outcome_and_the_same_ones_each_time(sink, outcomes):
    lines = list(sink.lines(outcomes))
    assert len(lines) == counts(outcomes)[sink.topic] > 0
    assert lines == list(sink.lines(outcomes))


@every
def test_nothing_to_say_writes_nothing(sink):
    assert list(sink.lines(Outcomes())) == []


def test_a_dead_letter_keeps_bytes_key_and_headers():
    record = Record(7, 1234, b"key", b"\xff", (("traceparent", b"x"),))
    letter = DeadLetter(record, JOBS, 2, Reason.NOT_UTF8, "byte 0")
    dead_letter = next(sink for sink in SINKS if sink.topic == "dead-letter")
    (line,) = dead_letter.lines(Outcomes(dead_letters=[letter]))
    headers = dict(line.headers)
    assert (line.key, line.value) == (b"key", b"\xff")
    assert headers["reason"] == b"not_utf8"
    assert (headers["topic"], headers["partition"], headers["offset"]) == (b"jobs", b"2", b"7")
    assert headers["received_at"] == b"1234"
    assert headers["original-traceparent"] == b"x"


class Broken:
    """A producer whose broker never has enough replicas; everything else is aiokafka's."""

    def __init__(self, real):
        self._real = real

    def create_batch(self):
        return self._real.create_batch()

    async def send_batch(self, batch, topic, *, partition):
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ConnectionError("no replica answers"))
        return future


def test_a_failure_is_raised_and_names_every_topic_that_was_not_written(outcomes):
    async def run():
        publisher = Publisher(Broken(AIOKafkaProducer()), SINKS, lambda name: f"prefix.{name}", 4)
        with pytest.raises(ConnectionError) as raised:
            await publisher.write(0, outcomes)
        return publisher, raised.value.__notes__

    publisher, (note,) = asyncio.run(run())
    assert all(f"prefix.{topic}" in note for topic, count in counts(outcomes).items() if count)
    assert set(publisher.written.values()) == {0}
