"""Records that fit the contract and are absurd all the same: none may stop a stage, none may spoil a figure."""

import json

import pytest
from records import Log, event, lifecycle, result

from app.conventions import JOBS, RESULTS, SAMPLES
from app.core.fidelity import Ideal
from app.core.runs import RunStage
from app.core.streams import StreamStage
from app.sinks import samples

WIDE = "0" * 256
FIRST = "0001-01-01T00:00:00+14:00"
ABSURD = {
    "calibrated before the calendar": (RESULTS, result(calibrated_at=FIRST)),
    "calibrated long after": (RESULTS, result(calibrated_at="9999-12-31T23:59:59-14:00")),
    "billed before the calendar": (JOBS, event("cost", amount_usd=1, billed_at=FIRST)),
    "billed long after": (JOBS, event("cost", amount_usd=1, billed_at="9999-12-31T23:59:59-14:00")),
    "the largest sequence number": (JOBS, event("started", seq=2**53 - 1)),
    "a sequence number beyond": (JOBS, event("started", seq=2**63 - 1)),
    "an ideal of nothing": (RESULTS, result(ideal={})),
    "an ideal that is none": (RESULTS, result(ideal={"0": 0.1})),
    "an ideal with a denormal": (RESULTS, result(ideal={"00000": 1.0, "11111": 5e-324})),
    "an ideal of 256 qubits": (
        RESULTS,
        result(ideal={WIDE: 0.5, "1" * 256: 0.5}, counts={WIDE: 1, "1" * 255 + "0": 99}),
    ),
    "an ideal of another width": (RESULTS, result(ideal={"0": 1.0})),
    "a billion shots": (RESULTS, result(shots=10**9, counts={"00000": 10**9})),
    "a separator in a name": (RESULTS, result(workload="a\x1fb", backend="c\x1fd")),
    "every scope there is": (JOBS, event("submitted", consent={"granted": True, "scopes": ["s" * 128] * 8000})),
    "reasons without end": (JOBS, event("rejected", reasons=["r" * 1024] * 1000)),
    "a thousand fields that are not given": (RESULTS, result(not_given={f"f{n}": "x" * 1000 for n in range(900)})),
    "a negative fortune": (JOBS, event("cost", amount_usd=-1e9)),
    "names of NUL": (JOBS, event("submitted", "\x00", workload="\x00", tier="high")),
    "emoji and combining marks": (JOBS, event("submitted", "run-\U0001f600\u0301", submitter="\U0001f600")),
}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_record_is_taken_or_refused_and_the_run_after_it_is_whole(catalog, policy, name):
    topic, value = ABSURD[name]
    stage, log = RunStage(catalog, policy, 1), Log()
    streams, sampled = StreamStage(catalog, 4), Log()
    evidence = []

    def apply(batch):
        outcomes = stage.apply(batch)
        evidence.extend(outcomes.evidence)
        lines = [line.value for line in samples.SINK.lines(outcomes)]
        streams.apply(sampled.batch(SAMPLES, lines))

    def beat(first, count):
        for second in range(first, first + count):
            for one in RunStage.topics:
                apply(log.heartbeat(one, Log.START + second))
            streams.apply(sampled.heartbeat(SAMPLES, Log.START + second))

    beat(1, 2)
    apply(log.batch(topic, [value]))
    apply(log.batch(JOBS, [*lifecycle("run-after"), event("completed", value.get("run_id", "run-1"))]))
    apply(log.batch(RESULTS, [result("run-after")]))
    beat(3, 100)
    whole = {record.run_id: record for record in evidence}
    assert whole["run-after"].complete
    restored = RunStage(catalog, policy, 1)
    restored.restore(stage.snapshot())
    again = StreamStage(catalog, 4)
    again.restore(streams.snapshot())
    for stream in streams.streams.values():
        assert -0.5 < stream.total.mean < 1.5
    for record in evidence:
        assert len(json.dumps(record.fields, default=str)) < 100_000


def test_no_ideal_and_no_counts_give_a_fidelity_beyond_reason():
    wide = Ideal({"0" * 200: 0.5, "1" * 200: 0.5})
    assert abs(wide.fidelity({"0" * 200: 1, "01" * 100: 99}, 100).value) < 0.5


def test_runs_with_many_routings_before_their_submission_stay_linear(catalog, policy):
    stage, log = RunStage(catalog, policy, 1), Log()
    routings = [{**lifecycle()[2], "event_id": f"r{number}"} for number in range(5000)]
    stage.apply(log.batch(JOBS, routings))
    stage.apply(log.batch(JOBS, [lifecycle()[0]]))
    assert stage.counters["valid", "M6", "ibm"] == 5000
