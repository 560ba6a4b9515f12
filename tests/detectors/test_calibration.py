"""Calibrations of real devices: what is flagged, what is called an artefact, and what a fixed rule would do."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest

from detectors.calibration import judge, log_ratio, plausible

#: Median figures of consecutive snapshots of IBM devices 2020-2026; from the Apache-2.0 package qiskit-ibm-runtime.
DATA = Path(__file__).parents[1] / "data" / "calibration-pairs.jsonl.gz"
LEVEL = 0.01


@pytest.fixture(scope="module")
def snapshots():
    with gzip.open(DATA, "rt") as lines:
        return [json.loads(line) for line in lines]


def pairs(snapshots):
    return [
        (one, other)
        for one, other in pairwise(sorted(snapshots, key=lambda s: (s["backend"], s["updated_at"])))
        if one["backend"] == other["backend"] and len(one["readout_error"]) == len(other["readout_error"])
    ]


def name(pair):
    return pair[0]["backend"], pair[0]["updated_at"][:10], pair[1]["updated_at"][:10]


def sound(snapshot):
    return plausible(snapshot["readout_error"])


def test_fez_of_2025_01_22_is_an_anomaly_of_the_data_and_the_only_one(snapshots):
    assert [(one["backend"], one["updated_at"][:10]) for one in snapshots if not sound(one)] == [
        ("ibm_fez", "2025-01-22")
    ]


def verdicts(snapshots, parameter):
    usable = [pair for pair in pairs(snapshots) if sound(pair[0]) and sound(pair[1])]
    changes = {name(pair): log_ratio(pair[0][parameter], pair[1][parameter]) for pair in usable}
    return {
        which: judge(change, [other for key, other in changes.items() if key != which], LEVEL)
        for which, change in changes.items()
    }


def test_the_jump_of_cairos_readout_is_flagged(snapshots):
    found = verdicts(snapshots, "readout_error")
    flagged = {which for which, shift in found.items() if shift.kind == "shifted"}
    assert ("ibm_cairo", "2024-03-25", "2024-04-10") in flagged
    assert found["ibm_cairo", "2024-03-25", "2024-04-10"].p_value < 1e-4


@pytest.mark.parametrize("parameter", ["readout_error", "t1_us"])
def test_there_are_fewer_alarms_than_a_fixed_rule_of_10_percent_makes(snapshots, parameter):
    found = verdicts(snapshots, parameter)
    fixed = sum(abs(shift.log_ratio) > 0.0953 for shift in found.values())
    ours = sum(shift.kind == "shifted" for shift in found.values())
    assert ours < fixed / 2
    assert fixed >= len(found) / 3


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="at least 5"):
        judge(0.1, [0.1] * 4, 0.01)
    with pytest.raises(ValueError, match="level"):
        judge(0.1, [0.1] * 9, 1.5)
    with pytest.raises(ValueError, match="no element"):
        log_ratio([0.0, 0.1], [0.1, 0.0])


def test_hand_worked():
    """Median of logs of 2, 2 and 4 is log 2; against a spread of 0.1 (1.4826 x MAD) around 0 it is far out."""
    change = log_ratio([1.0, 1.0, 1.0], [2.0, 2.0, 4.0])
    assert change == pytest.approx(0.693147, abs=1e-6)
    others = [-0.2, -0.0674491, 0.0, 0.0674491, 0.2, -0.0674491, 0.0674491]
    assert judge(change, others, 0.01).score == pytest.approx(6.93, abs=0.01)
    assert not plausible([0.6, 0.7, 0.1])
    assert plausible([0.6, 0.2, 0.1], [100.0])
    assert not plausible([0.1], [0.0])
