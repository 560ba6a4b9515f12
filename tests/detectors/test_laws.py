"""Laws that every registered detector keeps."""

import math
import random

import pytest

from detectors import REGISTRY, Detector, NonFiniteError

#: Detector -> parameters under which it can see a fidelity-sized change, and the longest delay it may then have.
TUNED = {
    "adwin": ({}, 400),
    "page_hinkley": ({"threshold": 0.5, "delta": 0.005}, 50),
    "kswin": ({"seed": 3}, 60),
}

every = pytest.mark.parametrize("name", REGISTRY)


def make(name):
    return REGISTRY[name](**TUNED[name][0])


def stream(seed, count, mean=0.95, deviation=0.01):
    rng = random.Random(seed)
    return [rng.gauss(mean, deviation) for _ in range(count)]


def alarms(detector, values):
    found = []
    for index, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected:
            found.append(index)
    return found


def test_every_detector_is_under_the_laws():
    assert set(REGISTRY) == set(TUNED)


@every
def test_it_is_a_detector(name):
    assert isinstance(make(name), Detector)


@every
def test_it_is_repeatable(name):
    values = stream(1, 400) + stream(2, 200, mean=0.8)
    assert alarms(make(name), values) == alarms(make(name), values)


@every
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_it_rejects_what_is_not_finite_and_stays_as_it_was(name, value):
    detector = make(name)
    alarms(detector, stream(1, 120))
    before = detector.snapshot()
    with pytest.raises(NonFiniteError):
        detector.update(value)
    assert before == detector.snapshot()


@every
@pytest.mark.parametrize("cut", [0, 1, 29, 30, 99, 100, 350, 401, 420, 599])
def test_restored_it_continues_identically(name, cut):
    values = stream(4, 400) + stream(5, 200, mean=0.8)
    whole, first = make(name), make(name)
    alarms(whole, values[:cut])
    alarms(first, values[:cut])
    restored = make(name)
    restored.restore(first.snapshot())
    assert alarms(whole, values[cut:]) == alarms(restored, values[cut:])
    assert whole.snapshot() == restored.snapshot()


@every
def test_it_is_quiet_on_a_constant(name):
    assert alarms(make(name), [0.95] * 1000) == []


@every
def test_it_fires_on_a_step_within_its_stated_delay(name):
    values = stream(6, 500) + stream(7, TUNED[name][1], mean=0.75)
    found = [index for index in alarms(make(name), values) if index >= 500]
    assert found


@every
def test_a_snapshot_of_another_detector_or_of_other_parameters_is_refused(name):
    other = next(candidate for candidate in REGISTRY if candidate != name)
    with pytest.raises(ValueError, match="snapshot"):
        make(name).restore(make(other).snapshot())
    with pytest.raises(ValueError, match="snapshot"):
        make(name).restore(b"\xc1")
