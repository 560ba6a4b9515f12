"""Traffic: the same seed gives the same bytes, records fit the contract, and the truth is true."""

from collections import Counter, defaultdict

import msgspec
import pytest

from app.core.decode import Rejection, decode_job, decode_result
from app.core.ledger import STEPS, TERMINAL_BITS, illegal_transitions
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

START = 1_790_000_000.0


def traffic(seed=1, scenario="steady", rate=2000.0, **more):
    return Traffic(SCENARIOS[scenario], seed=seed, start=START, rate=rate, **more)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_same_seed_same_bytes_and_another_seed_others(scenario):
    assert traffic(scenario=scenario).runs(300) == traffic(scenario=scenario).runs(300)
    assert traffic(1, scenario).runs(50) != traffic(2, scenario).runs(50)


def test_every_record_is_taken_in_and_the_truth_counts_them():
    made = traffic(results_per_run=3)
    messages = made.runs(500)
    kinds = Counter(message.topic for message in messages)
    for message in messages:
        decode = decode_job if message.topic == "jobs" else decode_result
        event = decode(message.value)
        assert not isinstance(event, Rejection), event
        assert event.run_id.encode() == message.key
    ids = {msgspec.json.decode(message.value)["event_id"] for message in messages}
    assert len(ids) == made.truth.unique
    assert len(messages) - len(ids) == made.truth.duplicates
    assert kinds["jobs"] >= made.truth.jobs
    assert made.truth.runs == 500


def test_sequence_numbers_of_a_producer_have_no_gap():
    seen = defaultdict(set)
    for message in traffic().runs(400):
        event = msgspec.json.decode(message.value)
        seen[event["producer"]].add(event["seq"])
    assert len(seen) > 5
    for producer, numbers in seen.items():
        assert numbers == set(range(len(numbers))), producer


def test_every_life_is_a_legal_one_and_ends():
    lives = defaultdict(list)
    for message in traffic().runs(100):
        if message.topic == "jobs":
            event = decode_job(message.value)
            if isinstance(event, STEPS):
                lives[event.run_id].append((event.at, str(event.__struct_config__.tag)))
    for path in lives.values():
        names = [(name, 0.0) for _, name in sorted(set(path))]
        assert illegal_transitions(names) == []
        assert names[-1][0] == "completed"
    assert TERMINAL_BITS


def test_for_seconds_makes_the_rate_and_runs_to_their_ends():
    messages = list(traffic(rate=1000.0).for_seconds(5))
    assert 5000 <= len(messages) <= 5600
    assert [message.at for message in messages] == sorted(message.at for message in messages)
    ended = {message.key for message in messages if b'"type":"completed"' in message.value}
    assert ended == {message.key for message in messages}


def test_the_drift_scenario_drifts_where_its_truth_says_and_nowhere_else():
    scenario = SCENARIOS["fidelity-drift"]
    (shift,) = scenario.shifts
    assert scenario.error_scale(shift.backend, shift.onset_seconds) == 1.0
    assert scenario.error_scale(shift.backend, shift.onset_seconds + 60) > 3
    assert scenario.error_scale("ibm_brisbane", shift.onset_seconds + 60) == 1.0
    correct = defaultdict(list)
    for message in traffic(scenario="fidelity-drift", rate=500.0).for_seconds(30):
        if message.topic == "results" and b"bid-pricing" in message.value:
            event = decode_result(message.value)
            late = event.at.timestamp() - START > 16
            correct[event.backend, late].append(event.counts.get("10110", 0))
    drop = {
        backend: sum(correct[backend, False]) / len(correct[backend, False])
        - sum(correct[backend, True]) / len(correct[backend, True])
        for backend, _ in correct
    }
    assert drop[shift.backend] > 30
    assert all(abs(value) < 15 for backend, value in drop.items() if backend != shift.backend)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_record_of_every_scenario_is_an_event(name):
    made = traffic(3, name)
    readers = {"jobs": decode_job, "results": decode_result}
    refused = [found for one in made.runs(300) if isinstance(found := readers[one.topic](one.value), Rejection)]
    assert refused == []
