"""Burn rates (M9, F4): twice the usual pages and freezes; lag and corrections do not."""

import msgspec
import numpy as np
import pytest
from records import Log

from app.conventions import SAMPLES
from app.core.outcomes import Lifted, Pack, Spending
from app.core.spend import budget_ends_at
from app.core.streams import StreamStage

#: The beginning of an hour, so that no hourly budget ends within a test's first hour.
START = Log.START - Log.START % 3600 + 3600
CENTER = "logistics"
FREEZE = ("freeze_offload", CENTER)


class Bench:
    """A stream stage that is told of charges, a second at a time."""

    def __init__(self, catalog, seed=1):
        self.stage, self.log, self.offset, self.now = StreamStage(catalog, 4), Log(), 0, START
        self.rng = np.random.default_rng(seed)
        self.alerts, self.orders = [], []
        self.beat()

    def beat(self):
        self.now += 1
        self._keep(self.stage.apply(self.log.heartbeat(SAMPLES, self.now)))

    def _keep(self, outcomes):
        self.alerts += outcomes.alerts
        self.orders += outcomes.directives

    def charge(self, *charges, center=CENTER):
        """Charges as (dollars, seconds ago)."""
        pack = Pack("jobs", 0, self.offset, self.offset + len(charges))
        for usd, ago in charges:
            pack.spending.append(Spending(self.offset, self.now - ago, center, "quantum", round(usd * 1e6)))
            self.offset += 1
        self._keep(self.stage.apply(self.log.batch(SAMPLES, [msgspec.msgpack.encode(pack)], self.now)))

    def spend(self, seconds, per_second, usd=0.01, lag=0.0):
        for _ in range(seconds):
            count = self.rng.poisson(per_second)
            if count:
                self.charge(*[(usd * factor, lag) for factor in self.rng.uniform(0.8, 1.2, count)])
            self.beat()

    @property
    def said(self):
        return [(alert.name, alert.severity, alert.status) for alert in self.alerts if alert.name == "SpendBurnRate"]


@pytest.fixture
def bench(catalog):
    return Bench(catalog)


def test_ten_times_the_usual_pages_within_seconds_and_freezes(bench):
    bench.spend(600, 3)
    assert not bench.said
    began = bench.now
    while not bench.said and bench.now < began + 120:
        bench.spend(1, 30)
    assert bench.now - began <= 20
    assert bench.said == [("SpendBurnRate", "page", "firing")]
    (order,) = bench.orders
    assert (order.directive, order.target) == FREEZE
    alert = bench.alerts[-1]
    assert alert.figures["baseline_usd_per_hour"] == pytest.approx(3 * 0.01 * 3600, rel=0.1)
    assert alert.figures["usd_per_hour"] >= 2 * alert.figures["baseline_usd_per_hour"]


def test_twice_the_usual_pages_within_two_minutes(bench):
    bench.spend(900, 5)
    began = bench.now
    while not bench.said and bench.now < began + 300:
        bench.spend(1, 11)
    assert bench.now - began <= 120


def test_steady_spending_pages_nobody(catalog):
    for seed in range(5):
        bench = Bench(catalog, seed)
        bench.spend(3_000, 1.5)
        assert not bench.said, seed


def test_it_ends_after_five_quiet_minutes_and_the_excess_is_no_baseline(bench):
    bench.spend(600, 3)
    bench.spend(120, 30)
    bench.spend(500, 3)
    assert bench.said[0][2] == "firing"
    assert bench.said[-1][2] == "resolved"
    assert bench.orders[-1] == Lifted(*FREEZE)
    assert len([each for each in bench.said if each[2] == "resolved"]) == 1
    rate = bench.stage.burn.rate(CENTER, bench.stage._catalog.alerting.spend, 0.0)
    assert rate.baseline_usd_per_hour == pytest.approx(3 * 0.01 * 3600, rel=0.1)


def test_what_lasts_an_hour_is_the_new_baseline(bench):
    bench.spend(600, 1)
    bench.spend(3_700, 4)
    assert bench.said[0][2] == "firing"
    assert bench.said[-1][2] == "resolved"
    over = next(alert for alert in bench.alerts if alert.name == "SpendBurnRate" and alert.status == "resolved")
    assert "new baseline" in over.summary
    count = len(bench.said)
    bench.spend(300, 4)
    assert len(bench.said) == count


def test_a_peak_in_bills_by_the_minute_ends_and_the_usual_is_usual_again(bench):
    """Five of six bins are empty then; those of the peak are no baseline either."""

    def minutes(count, charges):
        for _ in range(count):
            bench.charge(*[(0.1, bench.now % 60)] * charges)
            for _ in range(60):
                bench.beat()

    minutes(60, 60)
    minutes(40, 180)
    minutes(20, 60)
    assert bench.said[0][2] == "firing"
    assert bench.said[-1][2] == "resolved"
    assert bench.orders[-1] == Lifted(*FREEZE)
    rate = bench.stage.burn.rate(CENTER, bench.stage._catalog.alerting.spend, 0.0)
    assert rate.baseline_usd_per_hour == pytest.approx(360, rel=0.02)


def test_charges_of_the_time_before_the_first_one_are_no_baseline(bench):
    """Of that time nobody knows the rest."""
    bench.charge((0.01, 0))
    bench.charge(*[(1.0, ago) for ago in range(60, 3_600, 60)])
    bench.spend(900, 3)
    rate = bench.stage.burn.rate(CENTER, bench.stage._catalog.alerting.spend, 0.0)
    assert rate.baseline_usd_per_hour == pytest.approx(3 * 0.01 * 3600, rel=0.1)


def test_bills_that_come_late_are_of_their_own_time(bench):
    """A provider that bills every ten minutes what was used in them: no run of a minute."""
    for _ in range(6):
        began = bench.now
        for _ in range(600):
            bench.beat()
        bench.charge(*[(0.03, bench.now - began - second) for second in range(600)])
        bench.beat()
    assert not bench.said
    assert bench.stage.burn.centers[CENTER].lag_seconds > 60


def test_a_constant_lag_changes_no_rate_and_an_excess_is_found_all_the_same(bench):
    bench.spend(600, 3, lag=1_200)
    assert not bench.said
    bench.spend(60, 30, lag=1_200)
    assert bench.said == [("SpendBurnRate", "page", "firing")]


def test_a_correction_takes_back_what_it_corrects(bench):
    bench.spend(600, 3)
    for _ in range(30):
        bench.charge((5.0, 0.0), (-5.0, 0.0))  # charged by mistake, corrected at once
        bench.beat()
    assert not bench.said


def test_next_to_nothing_is_no_baseline_to_be_twice_of(bench):
    bench.spend(600, 0.05, usd=0.0001)
    bench.spend(60, 1, usd=0.0001)
    assert not bench.said


def test_the_order_stands_while_one_of_its_two_reasons_does(bench, catalog):
    bench.spend(600, 3)
    bench.spend(30, 30)
    bench.charge((catalog.budgets[CENTER] + 1, 0.0))
    bench.beat()
    assert {alert.name for alert in bench.alerts} == {"SpendBurnRate", "HourlyBudgetSpent"}
    bench.spend(500, 3)
    assert bench.said[-1][2] == "resolved"
    assert Lifted(*FREEZE) not in bench.orders, "the hour's budget is still spent"


def test_a_restored_stage_says_nothing_twice_and_ends_what_it_said(bench, catalog):
    bench.spend(600, 3)
    bench.spend(30, 30)
    restored = Bench(catalog)
    restored.stage.restore(bench.stage.snapshot())
    restored.offset, restored.now = bench.offset, bench.now
    restored.spend(20, 30)
    assert not restored.said
    restored.spend(500, 3)
    assert [status for *_, status in restored.said] == ["firing", "resolved"], "refreshed after a minute, ended once"


def test_when_a_budget_ends():
    assert budget_ends_at(10.0, 40.0, 60.0, now=1_000.0) == 1_000.0 + 1_800.0
    assert budget_ends_at(40.0, 40.0, 60.0, now=1_000.0) == 1_000.0
    assert budget_ends_at(10.0, 40.0, 0.0, now=1_000.0) is None


def test_a_large_charge_is_one_of_many_in_a_checkpoint(bench, catalog):
    bench.spend(30, 3)
    bench.charge((900_000.0, 0.0))
    restored = Bench(catalog)
    restored.stage.restore(bench.stage.snapshot())


@pytest.mark.parametrize(("per_hour", "usd"), [(6, 10.0), (12, 5.0), (30, 2.0)])
def test_a_few_large_charges_an_hour_are_no_peak(catalog, per_hour, usd):
    bench = Bench(catalog, seed=7)
    for _ in range(12 * 360):
        if bench.rng.random() < per_hour / 360:
            bench.charge((usd * bench.rng.uniform(0.8, 1.2), 0.0))
        bench.now += 9
        bench.beat()
    assert not bench.said


def test_after_an_idle_hour_one_run_is_no_peak(bench):
    bench.spend(600, 1)
    for _ in range(4_000):
        bench.beat()
    bench.charge((1.0, 0.0))
    bench.beat()
    assert not bench.said


def test_a_charge_of_tomorrow_makes_nobody_blind(bench):
    bench.charge((0.01, -80_000.0))
    bench.spend(600, 3)
    bench.spend(60, 30)
    assert bench.said == [("SpendBurnRate", "page", "firing")]


def test_a_mistake_that_was_corrected_hides_nothing(bench):
    bench.spend(600, 3)
    bench.charge((1_000.0, 180.0), (-1_000.0, 180.0))
    bench.spend(60, 30)
    assert bench.said == [("SpendBurnRate", "page", "firing")]


def test_of_an_idle_cost_center_no_budget_ends(bench):
    bench.spend(120, 100, usd=0.05)
    assert bench.stage.budget_ends_at(CENTER) is not None
    for _ in range(600):
        bench.beat()
    assert bench.stage.budget_ends_at(CENTER) is None
