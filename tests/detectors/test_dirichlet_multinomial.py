"""Whole distributions: what is learned, what is seen, what is said, what is refused."""

import numpy as np
import pytest

from detectors.dirichlet_multinomial import DirichletMultinomial

WIDTH = 3
GHZ = np.array([0.47, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.47])


def jobs(rng, count, shares=GHZ, precision=800.0, shots=1000):
    for _ in range(count):
        counts = rng.multinomial(shots, rng.dirichlet(precision * shares))
        yield {f"{place:03b}": int(n) for place, n in enumerate(counts) if n}


def flipped(qubit, share):
    return (1 - share) * GHZ + share * GHZ[np.arange(8) ^ (1 << qubit)]


def first_alarm(detector, found, inflow=1e-4):
    return next(((number, alarm) for number, one in enumerate(found) if (alarm := detector.update(one, inflow))), None)


def known(**more):
    return DirichletMultinomial(WIDTH, {f"{place:03b}": p for place, p in enumerate(GHZ)}, 800.0, **more)


@pytest.mark.parametrize("qubit", [0, 1, 2])
def test_a_qubit_that_is_read_wrongly_is_seen_named_and_its_outcomes_listed(qubit):
    rng = np.random.default_rng(qubit)
    detector = known()
    assert first_alarm(detector, jobs(rng, 300)) is None
    number, alarm = first_alarm(detector, jobs(rng, 30, flipped(qubit, 0.08)))
    assert number < 15
    assert alarm.ways[0][0] == f"readout of qubit {qubit}"
    moved = {outcome for outcome, _, _ in alarm.outcomes[:4]}
    assert f"{1 << qubit:03b}" in moved
    assert {"000", "111"} & moved
    assert alarm.evidence > 1
    assert detector.out
    assert first_alarm(detector, jobs(rng, 30, flipped(qubit, 0.08))) is None
    detector.rearm()
    assert first_alarm(detector, jobs(rng, 30, flipped(qubit, 0.08)))


def test_depolarizing_and_relaxation_are_told_apart():
    rng = np.random.default_rng(9)
    uniform = 0.85 * GHZ + 0.15 / 8
    _, alarm = first_alarm(known(), jobs(rng, 60, uniform))
    assert alarm.ways[0][0] == "depolarizing"
    relaxed = GHZ.copy()
    relaxed[6] += 0.15 * relaxed[7]
    relaxed[7] *= 0.85
    _, alarm = first_alarm(known(), jobs(rng, 60, relaxed))
    assert alarm.ways[0][0] == "relaxation of qubit 0"


def test_learned_it_keeps_quiet_and_sees_the_change():
    rng = np.random.default_rng(4)
    detector = DirichletMultinomial(WIDTH, learn=200)
    assert detector.learning
    assert first_alarm(detector, jobs(rng, 1500)) is None
    assert not detector.learning
    assert 300 < detector._precision < 1100
    assert first_alarm(detector, jobs(rng, 40, flipped(1, 0.1)))


def test_between_jobs_variation_is_estimated_and_keeps_the_run_length():
    """With 20 % variation between jobs a multinomial would ring all the time."""
    rng = np.random.default_rng(6)
    alarms = 0
    detector = known()
    for one in jobs(rng, 4000):
        if detector.update(one, 1 / 1000):
            alarms += 1
            detector.rearm()
    assert alarms <= 10


@pytest.mark.parametrize("cut", [0, 50, 120, 305])
def test_restored_it_continues_identically(cut):
    rng = np.random.default_rng(8)
    found = [*jobs(rng, 300), *jobs(rng, 30, flipped(0, 0.1))]
    whole, part = DirichletMultinomial(WIDTH, learn=100), DirichletMultinomial(WIDTH, learn=100)
    expected = [whole.update(one, 1e-3) for one in found]
    said = [part.update(one, 1e-3) for one in found[:cut]]
    restored = DirichletMultinomial(WIDTH, learn=100)
    restored.restore(part.snapshot())
    said += [restored.update(one, 1e-3) for one in found[cut:]]
    assert said == expected
    assert restored.snapshot() == whole.snapshot()


@pytest.mark.parametrize("counts", [{}, {"000": 0}, {"00": 5}, {"0000": 5}, {"00x": 5}, {"000": -1, "001": 3}])
def test_what_are_no_counts_is_refused_and_changes_nothing(counts):
    detector = known()
    before = detector.snapshot()
    with pytest.raises(ValueError, match=r"counts|outcome"):
        detector.update(counts, 1e-4)
    assert detector.snapshot() == before


def test_other_snapshots_and_wide_circuits_are_refused():
    with pytest.raises(ValueError, match="snapshot"):
        known().restore(DirichletMultinomial(2, learn=10).snapshot())
    with pytest.raises(ValueError, match="snapshot"):
        known().restore(b"\xc1")
    with pytest.raises(ValueError, match="width"):
        DirichletMultinomial(9)


def test_a_constant_circuit_is_quiet():
    detector = DirichletMultinomial(1, learn=50)
    assert first_alarm(detector, [{"0": 1000}] * 500) is None
