"""Canary against stable: verdicts, and how often one is wrong when it is looked at after every pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.canary import Comparison, Homogeneity


def first_verdict(comparison, canary, stable):
    for number, (one, other) in enumerate(zip(canary, stable, strict=True), 1):
        comparison.add(one, other)
        verdict = comparison.verdict()
        if verdict != "not_enough_runs":
            return verdict, number
    return "not_enough_runs", len(canary)


def test_looked_at_after_every_pair_a_wrong_verdict_is_as_rare_as_was_said():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        values = rng.beta(450, 24, (2, 400))
        wrong += first_verdict(Comparison(margin=0.49), *values)[0] in {"worse", "better"}
    assert wrong <= 200 * 0.05


@pytest.mark.parametrize(
    ("shift", "verdict", "longest"), [(-0.02, "worse", 30), (0.02, "better", 30), (-0.01, "worse", 80)]
)
def test_a_canary_that_differs_is_seen_soon(shift, verdict, longest):
    rng = np.random.default_rng(2)
    found = [
        first_verdict(Comparison(), rng.normal(0.95 + shift, 0.01, 300), rng.normal(0.95, 0.01, 300)) for _ in range(50)
    ]
    assert {name for name, _ in found} == {verdict}
    assert np.median([number for _, number in found]) <= longest


def test_an_equal_canary_is_called_equal_and_before_that_nothing():
    rng = np.random.default_rng(3)
    verdicts = [first_verdict(Comparison(), *rng.beta(450, 24, (2, 3000))) for _ in range(30)]
    assert sum(name == "equal" for name, _ in verdicts) >= 28
    assert min(number for _, number in verdicts) > 30


def test_what_happens_to_both_is_no_verdict_against_the_canary():
    rng = np.random.default_rng(4)
    drift = np.linspace(0, 0.2, 400)
    verdict, _ = first_verdict(
        Comparison(margin=0.49), 0.95 - drift + rng.normal(0, 0.01, 400), 0.95 - drift + rng.normal(0, 0.01, 400)
    )
    assert verdict in {"not_enough_runs", "equal"}


def test_ties_and_constants_are_equal_in_the_end():
    verdict, pairs = first_verdict(Comparison(), [0.9] * 2000, [0.9] * 2000)
    assert verdict == "equal"
    assert pairs > 50


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_and_changes_nothing(bad):
    comparison = Comparison()
    for pair in ((bad, 0.9), (0.9, bad)):
        with pytest.raises(ValueError, match="finite"):
            comparison.add(*pair)
    assert comparison == Comparison()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=60))
def test_swapping_the_two_swaps_the_verdict(pairs):
    one, other = Comparison(), Comparison()
    for canary, stable in pairs:
        one.add(canary, stable)
        other.add(stable, canary)
    swapped = {"worse": "better", "better": "worse"}
    assert one.verdict() == swapped.get(other.verdict(), other.verdict())


def test_decisions_of_one_distribution_are_rarely_said_to_differ():
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(200):
        homogeneity = Homogeneity()
        for canary, stable in rng.choice(["approve", "reject", "refer"], (300, 2), p=[0.7, 0.2, 0.1]).tolist():
            homogeneity.add(canary, stable)
            if homogeneity.verdict() == "differ":
                wrong += 1
                break
    assert wrong <= 200 * 0.05


def test_decisions_that_differ_are_seen():
    rng = np.random.default_rng(6)
    homogeneity = Homogeneity()
    for _ in range(400):
        homogeneity.add(str(rng.choice(["a", "b"], p=[0.5, 0.5])), str(rng.choice(["a", "b"], p=[0.8, 0.2])))
        if homogeneity.verdict() == "differ":
            break
    assert homogeneity.pairs < 200


def test_decisions_without_end_do_not_grow_it():
    homogeneity = Homogeneity()
    for number in range(1000):
        homogeneity.add(f"c{number}", f"s{number}")
    assert len({*homogeneity.canary, *homogeneity.stable}) <= 33
