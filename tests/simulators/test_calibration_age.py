"""How old the parameters are that jobs run on, by the parameters' own dates, in real snapshots."""

import gzip
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from records import Log, event, result

from app.conventions import JOBS, RESULTS
from app.core.results import FRESH_SECONDS
from app.core.runs import RunStage
from simulators.calibrations import parameter_dates

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "ibm-calibrations.jsonl.gz"
CIRCUIT = range(5)


@pytest.fixture(scope="module")
def snapshots():
    if not SHARED.exists():
        pytest.skip("the calibration snapshots are not beside this checkout")
    with gzip.open(SHARED, "rt") as lines:
        return [json.loads(line) for line in lines]


def ages(snapshot, qubits=None):
    at = datetime.fromisoformat(snapshot["updated_at"])
    return [(at - date).total_seconds() for date in parameter_dates(snapshot, qubits)]


def test_the_dates_of_a_circuit_are_those_of_its_qubits_and_of_the_gates_among_them():
    old, new, other = "2026-04-01T00:00:00+00:00", "2026-04-02T00:00:00+00:00", "2026-04-03T00:00:00+00:00"
    snapshot = {
        "qubits": [{"t_date": new, "readout_date": None}, {"t_date": new}, {"t_date": other}],
        "gates": [["cx", [0, 1], 0.01, old], ["cx", [1, 2], 0.01, other]],
    }
    assert [date.isoformat() for date in parameter_dates(snapshot, {0, 1})] == [new, new, old]
    assert len(parameter_dates(snapshot)) == 5


def test_half_of_all_parameters_are_younger_than_half_a_day_and_one_in_eight_older_than_two(snapshots):
    hours = np.concatenate([ages(snapshot) for snapshot in snapshots]) / 3600
    assert len(hours) > 20_000
    assert np.percentile(hours, 50) == pytest.approx(10.1, abs=0.1)
    assert np.percentile(hours, 90) == pytest.approx(55.5, abs=0.5)
    assert (hours < 48).mean() == pytest.approx(0.871, abs=0.002)


def test_the_share_of_jobs_on_fresh_parameters_is_counted_from_their_oldest(snapshots, catalog, policy):
    stage, log, now = RunStage(catalog, policy, 4), Log(), Log.START
    oldest = [max(found) for snapshot in snapshots if (found := ages(snapshot, CIRCUIT))]
    for topic in RunStage.topics:
        stage.apply(log.heartbeat(topic, now))
    made = [
        {**result(f"run-{number}", at=now), "calibrated_at": datetime.fromtimestamp(now - age).astimezone().isoformat()}
        for number, age in enumerate(oldest)
    ]
    stage.apply(log.batch(RESULTS, [*made, {**result("undated", at=now), "calibrated_at": None}], now))
    stage.apply(log.batch(JOBS, [event("started", "undated", at=now)], now))
    fresh = sum(age < FRESH_SECONDS for age in oldest)
    counted = {age: stage.counters["calibrated", age] for age in ("fresh", "stale", "unknown")}
    assert counted == {"fresh": fresh, "stale": len(oldest) - fresh, "unknown": 1}
    assert 0.7 < fresh / len(oldest) < 0.95
