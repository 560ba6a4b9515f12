"""The stream stage through its front door."""

import random

import numpy as np
import pytest
from records import Log
from streams import KEY, Bench, pack

from app.conventions import SAMPLES
from app.core.clock import WINDOW
from app.core.evidence import instant
from app.core.outcomes import Broken, Pack, Spending
from app.core.streams import Moments, StreamStage, variance_ratio


@pytest.fixture
def bench(catalog):
    return Bench(catalog)


def steady(count, seed=1, mean=0.94, deviation=0.008):
    return np.random.default_rng(seed).normal(mean, deviation, count).tolist()


def test_the_mean_and_its_error_are_those_of_all_observations(bench):
    values = steady(1000)
    bench.apply(pack(0, values))
    total = bench.stage.streams[KEY].total
    assert total.n == 1000
    assert total.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert total.standard_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(1000), rel=1e-9)


def test_however_the_source_is_cut_into_batches_each_observation_counts_once(catalog):
    values = steady(500)
    states = set()
    for seed in range(10):
        rng = random.Random(seed)
        bench = Bench(catalog)
        at = 0
        while at < len(values):
            size = rng.randint(1, 60)
            bench.apply(pack(at, values[at : at + size]))
            again = max(0, at - rng.randint(0, 40))  # a replay after a crash, cut in another way
            bench.apply(pack(again, values[again : at + size]))
            at += size
        states.add(bench.stage.streams[KEY].total.mean)
        assert bench.stage.counters["observed", "fidelity"] == 500
    assert len(states) == 1


def test_a_drop_in_fidelity_raises_an_alert_with_a_stable_id(catalog):
    ids = []
    for _ in range(2):
        bench = Bench(catalog)
        bench.apply(pack(0, steady(400) + steady(100, 2, mean=0.80)))
        assert bench.alerts
        assert bench.alerts[0].labels["workload"] == "route-planning"
        assert bench.alerts[0].run_ids[0] >= "run-39"
        assert bench.stage.counters["drift", "fidelity"] == len(bench.alerts) == 1
        ids.append([alert.alert_id for alert in bench.alerts])
    assert ids[0] == ids[1]


def test_an_alert_begins_when_it_is_found_whatever_the_producers_clock_says(bench):
    """It may be hours off; who is paged would be six hours late as the page comes."""
    bench.now = Log.START + 6 * 3600 + 60 * 500
    bench.beat(1)
    broken = Broken(b"12345678", Log.START, "run-1", "consent_scope", "high", "governance", "no consent")
    bench.apply(pack(0, steady(400) + steady(100, 2, mean=0.80), broken=[broken]))
    drift, violation = sorted(bench.alerts, key=lambda alert: alert.name)
    assert (drift.name, violation.name) == ("FidelityCollapse", "PolicyViolation")
    assert drift.at == violation.at == violation.notes["since"] == instant(bench.now)
    assert drift.notes["changed_at"] < drift.at, "when the device changed is said by the results' own time"


def test_no_alert_while_nothing_changes(bench):
    bench.apply(pack(0, steady(2000)))
    assert not bench.alerts


def test_a_window_that_varies_twice_as_much_counts_against_m4(bench):
    bench.apply(pack(0, steady(300)))
    assert bench.stage.counters["valid", "M4", "route-planning", "ibm_fez"] == 1
    assert bench.stage.counters["bad", "M4", "route-planning", "ibm_fez"] == 0
    bench.apply(pack(300, steady(100, 5, deviation=0.02)))
    assert bench.stage.counters["bad", "M4", "route-planning", "ibm_fez"] == 1
    ratio = bench.stage.streams[KEY].ratio
    assert ratio.low < ratio.ratio < ratio.high


def test_the_interval_of_a_variance_ratio_is_that_of_the_f_distribution():
    # Two variances of 4 and 1 with 10 and 20 degrees of freedom; F(.975; 10, 20) = 2.774, F(.025; 10, 20) = 0.2925.
    found = variance_ratio(Moments(11, 0.0, 40.0), Moments(21, 0.0, 20.0))
    assert found.ratio == 4.0
    assert found.low == pytest.approx(4 / 2.774, rel=1e-3)
    assert found.high == pytest.approx(4 / 0.2925, rel=1e-3)


def test_values_that_are_not_finite_are_counted_and_reach_no_detector(bench):
    bench.apply(pack(0, [*steady(50), float("nan"), float("inf"), *steady(50)]))
    assert bench.stage.counters["refused", "fidelity"] == 2
    assert bench.stage.counters["observed", "fidelity"] == 100


def test_a_sample_that_is_none_is_dead_lettered(bench):
    bench._take(bench.log.batch(SAMPLES, [b"\xc1", None]))
    assert len(bench.dead_letters) == 2


def numbers(*values):
    return np.array(values, dtype="<i8").tobytes()


def test_a_gap_in_a_producers_numbers_is_lost_after_the_grace_and_not_before(bench, catalog):
    grace = int(catalog.sequence_grace_seconds)
    bench.apply(Pack("jobs", 0, 0, 9, sequences={"p": numbers(0, 1, 2, 4, 5)}))
    bench.beat(grace + 2)
    bench.apply(Pack("jobs", 0, 9, 20, sequences={"p": numbers(8, 9, 7, 12)}))
    bench.beat(grace - 2)
    assert bench.stage.counters["lost",] == 1
    bench.beat(grace + 4)
    assert bench.stage.counters["lost",] == 1 + 1 + 2
    # One alert a producer: said at once, and again with what has come to it.
    said = [("firing", 1.0), ("firing", 4.0)]
    bench.beat(int(catalog.alerting.quiet_seconds) + 2)
    assert [(alert.status, alert.figures["lost"]) for alert in bench.alerts] == [*said, ("resolved", 4.0)]
    assert len({alert.fingerprint for alert in bench.alerts}) == 1


def test_numbers_out_of_order_over_partitions_are_no_gap(bench, catalog):
    rng = random.Random(1)
    order = sorted(range(5000), key=lambda number: number + rng.random() * 300)
    for first in range(0, 5000, 100):
        bench.apply(Pack("jobs", first % 4, first, first + 100, sequences={"p": numbers(*order[first : first + 100])}))
        bench.beat(2)
    bench.beat(3 * int(catalog.sequence_grace_seconds))
    assert bench.stage.counters["lost",] == 0


def test_a_number_that_arrives_after_all_is_recovered(bench, catalog):
    bench.apply(Pack("jobs", 0, 0, 9, sequences={"p": numbers(0, 2)}))
    bench.beat(2 * int(catalog.sequence_grace_seconds) + 5)
    bench.apply(Pack("jobs", 0, 9, 10, sequences={"p": numbers(1)}))
    bench.beat(1)
    assert bench.stage.counters["recovered",] == 1


def test_an_hour_above_the_budget_is_not_good_and_a_late_correction_mends_it(bench):
    spent = Spending(0, Log.START, "logistics", "quantum", 501_000_000, 500.0)
    bench.apply(Pack("jobs", 0, 0, 1, spending=[spent]))
    assert bench.stage.budget_hours() == {("logistics", "quantum"): (1, 0)}
    bench.apply(Pack("jobs", 0, 1, 2, spending=[Spending(1, Log.START, "logistics", "quantum", -2_000_000, 500.0)]))
    assert bench.stage.budget_hours() == {("logistics", "quantum"): (1, 1)}


def test_hours_that_can_change_no_more_are_folded(bench):
    for hour in range(200):
        at = Log.START + hour * 3600
        bench.now = at
        bench.beat(WINDOW)
        bench.apply(Pack("jobs", 0, hour, hour + 1, spending=[Spending(hour, at, "logistics", "quantum", 1, 500.0)]))
    assert bench.stage.budget_hours() == {("logistics", "quantum"): (200, 200)}
    assert len(bench.stage.hours) <= 73


def test_cut_anywhere_and_restored_the_stage_goes_on_as_if_nothing_had_been(catalog):
    values = steady(700) + steady(300, 2, mean=0.85)
    whole, cut = Bench(catalog), Bench(catalog)
    for first in range(0, 1000, 37):
        one = pack(first, values[first : first + 37], sequences={"p": numbers(first, first + 2)})
        for bench in (whole, cut):
            bench.apply(one)
            bench.beat(3)
        restored = StreamStage(catalog, 4)
        restored.restore(cut.stage.snapshot())
        cut.stage = restored
    assert whole.alerts == cut.alerts
    assert whole.stage.counters == cut.stage.counters
    assert whole.stage.snapshot() == cut.stage.snapshot()


def test_every_partition_of_the_runs_is_told_of_a_gap(bench, catalog):
    bench.apply(Pack("jobs", 0, 0, 9, sequences={"p": numbers(0, 2)}))
    bench.beat(2 * int(catalog.sequence_grace_seconds) + 5)
    assert [(gap.partition, gap.producer) for gap in bench.gaps] == [(number, "p") for number in range(4)]


def test_a_producer_that_fell_silent_for_a_day_makes_room(bench):
    bench.apply(Pack("jobs", 0, 0, 9, sequences={"p": numbers(0, 1)}))
    bench.beat(2)
    bench.stage.tick(bench.stage.clock.watched + 86_000)
    assert "p" in bench.stage.producers
    bench.stage.tick(bench.stage.clock.watched + 86_500)
    assert not bench.stage.producers
