"""Hellinger fidelity: hand-worked values, bias and coverage on simulated counts."""

from math import exp, sqrt

import numpy as np
import pytest

from app.core.fidelity import Ideal, root_mean

GHZ = Ideal({"00000": 0.5, "11111": 0.5})


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0, 7.7, 49.9, 50.0, 120.0])
def test_the_mean_root_of_a_poisson_count_equals_its_series(rate):
    expected, mass = 0.0, exp(-rate)
    for n in range(1, 1000):
        mass *= rate / n
        expected += sqrt(n) * mass
    assert root_mean(rate) == pytest.approx(expected, abs=3e-4)


def test_counts_that_are_ideal_have_fidelity_1_within_the_correction():
    value, error, _ = GHZ.fidelity({"00000": 500_000, "11111": 500_000}, 1_000_000)
    assert value == pytest.approx(1.0, abs=1e-5)
    assert error < 1e-4


def test_counts_outside_the_ideal_support_have_fidelity_0():
    assert GHZ.fidelity({"00001": 1000}, 1000).value == pytest.approx(0.0, abs=1e-3)


def test_a_hand_worked_value():
    # q = (.49, .49): F = (sqrt(.5 * .49) + sqrt(.5 * .49))^2 = .98; the correction is below 1/N of it.
    value, *_ = GHZ.fidelity({"00000": 490_000, "11111": 490_000, "10000": 20_000}, 1_000_000)
    assert value == pytest.approx(0.98, abs=2e-6)


@pytest.mark.parametrize("outcomes", [4, 32, 1024])
def test_a_perfect_device_reads_1_whatever_the_number_of_outcomes(outcomes):
    rng = np.random.default_rng(outcomes)
    p = np.full(outcomes, 1 / outcomes)
    assert _bias(p, p, 1000, rng) == pytest.approx(0.0, abs=0.005)


@pytest.mark.parametrize("floor", [0.02, 0.1, 0.3])
def test_bias_is_small_and_the_interval_covers_under_depolarizing_noise(floor):
    rng = np.random.default_rng(7)
    p = np.zeros(32)
    p[0] = p[31] = 0.5
    q = (1 - floor) * p + floor / 32
    values, errors, truth = _draw(p, q, 1000, rng, 3000)
    assert values.mean() == pytest.approx(truth, abs=0.001)
    covered = np.mean(np.abs(values - truth) <= 1.96 * errors)
    assert 0.925 <= covered <= 0.975


@pytest.mark.parametrize("wrong", [{}, {"0": 0.5, "11": 0.5}, {"0": 0.5, "1": 0.6}, {"0": 1.5, "1": -0.5}])
def test_what_is_no_distribution_is_refused(wrong):
    with pytest.raises(ValueError):
        Ideal(wrong)


def _draw(p, q, shots, rng, repeats):
    names = [format(index, f"0{int(np.log2(len(p)))}b") for index in range(len(p))]
    ideal = Ideal(dict(zip(names, p, strict=True)))
    estimates = [
        ideal.fidelity({name: int(n) for name, n in zip(names, row, strict=True) if n}, shots)
        for row in rng.multinomial(shots, q, size=repeats)
    ]
    values, errors, _ = np.array(estimates).T
    return values, errors, np.sqrt(p * q).sum() ** 2


def _bias(p, q, shots, rng):
    values, _, truth = _draw(p, q, shots, rng, 300)
    return values.mean() - truth
