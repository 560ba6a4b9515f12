"""Burn rates (M9, F4): twice the usual pages and freezes; lag and corrections do not."""

import msgspec
import numpy as np
import pytest
from records import Log

from app.conventions import REBASELINE_HEADER, SAMPLES
from app.core.outcomes import Lifted, Pack, Spending
from app.core.spend import budget_ends_at
from app.core.streams import StreamStage

#: The beginning of an hour, so that no hourly budget ends within a test's first hour.
START = Log.START - Log.START % 3600 + 3600
CENTER = "logistics"
FREEZE = ("freeze_offload", CENTER)
#: What charges say that their cost center may spend in an hour.
BUDGET_USD = 500.0


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
            pack.spending.append(Spending(self.offset, self.now - ago, center, "quantum", round(usd * 1e6), BUDGET_USD))
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
    bench.spend(1_800, 3, lag=1_200)  # of the time before the first charge was heard of nobody knows the rest
    assert not bench.said
    bench.spend(60, 30, lag=1_200)
    assert bench.said == [("SpendBurnRate", "page", "firing")]


@pytest.mark.parametrize("minutes", [15, 30, 60])
@pytest.mark.parametrize("quiet_share", [0.0, 0.3])
@pytest.mark.parametrize("factor", [3, 10])
def test_a_peak_within_a_bill_of_many_minutes_is_found_when_the_bill_comes(bench, minutes, quiet_share, factor):
    """Billed at once or as it happened, it pages; it does not become the baseline that it is compared with."""
    seconds = minutes * 60

    def bill(count, amount):
        """What was spent in each second of the period, at its end."""
        for _ in range(count):
            for _ in range(seconds):
                bench.beat()
            bench.charge(*[(amount(second), seconds - second) for second in range(seconds)])
            bench.beat()

    bill(120 // minutes, lambda second: 0.01)
    assert not bench.said
    bill(1, lambda second: 0.01 * (factor if second >= seconds * quiet_share else 1))
    assert bench.said == [("SpendBurnRate", "page", "firing")]
    assert [(order.directive, order.target) for order in bench.orders] == [FREEZE]
    assert bench.alerts[-1].figures["baseline_usd_per_hour"] == pytest.approx(36, rel=0.02)
    bill(1, lambda second: 0.01)
    for _ in range(301):
        bench.beat()
    assert bench.said[-1][2] == "resolved"


def test_a_late_charge_of_a_peak_that_has_ended_is_no_second_peak(bench):
    bench.spend(600, 3)
    bench.spend(60, 30)
    bench.spend(500, 3)
    assert bench.said[-1][2] == "resolved"
    count = len(bench.said)
    for _ in range(10):
        bench.charge((0.05, 530.0))
        bench.beat()
    assert len(bench.said) == count


@pytest.mark.parametrize("ahead", [40.0, 50.0, 3_600.0, 80_000.0])
def test_charges_that_are_dated_ahead_are_of_now_and_hide_nothing(bench, ahead):
    """A bill may be dated by the end of its period."""

    def spend(seconds, per_second):
        for _ in range(seconds):
            bench.charge(*[(0.01, -ahead if number == 0 else 0.0) for number in range(per_second)])
            bench.beat()

    spend(600, 3)
    rate = bench.stage.burn.rate(CENTER, bench.stage._catalog.alerting.spend, 0.0)
    assert rate.usd_per_hour == pytest.approx(3 * 0.01 * 3600, rel=0.2), "five bins to six"
    spend(60, 12)
    assert bench.said == [("SpendBurnRate", "page", "firing")]


def bills(bench, count, period, usd, items=60):
    """Bills of many items, all dated by the end of their period."""
    for _ in range(count):
        for _ in range(period):
            bench.beat()
        bench.charge(*[(usd / items, 0.0)] * items)
        bench.beat()


@pytest.mark.parametrize("period", [60, 120, 300, 900, 3_600])
def test_items_dated_by_the_end_of_their_period_are_of_all_of_it(bench, period):
    bills(bench, 10, period, period / 100)
    assert not bench.said
    rate = bench.stage.burn.rate(CENTER, bench.stage._catalog.alerting.spend, 0.0)
    assert rate.usd_per_hour == pytest.approx(36, rel=0.2)
    assert rate.baseline_usd_per_hour == pytest.approx(36, rel=0.15), "of the first it is not known of what it is"
    bills(bench, 2, period, period / 100 * 8)
    assert bench.said[0][2] == "firing"


def test_bills_beside_what_is_charged_as_it_happens_are_of_their_period(bench):
    for _ in range(4):
        bench.spend(900, 0.3, usd=0.03)
        bench.charge(*[(0.15, 0.0)] * 60)
        bench.beat()
    assert not bench.said
    rate = bench.stage.burn.rate(CENTER, bench.stage._catalog.alerting.spend, 0.0)
    assert rate.baseline_usd_per_hour == pytest.approx(0.3 * 0.03 * 3_600 + 36, rel=0.2)


def test_charges_that_share_a_second_by_chance_are_no_bill(bench):
    for second in range(1_800):
        if bench.rng.random() < 0.3:
            bench.charge(*[(0.05, 0.0)] * (2 if second % 97 == 0 else 1))
        bench.beat()
    assert bench.stage.burn.centers[CENTER].bill == 0.0


@pytest.mark.parametrize(("period", "count"), [(300, 6), (900, 3), (3_600, 1)])
def test_a_peak_that_lasts_over_several_bills_is_one_page_that_stands_until_a_bill_is_usual(bench, period, count):
    bills(bench, 6, period, period / 100)
    bills(bench, count, period, period / 100 * 5)
    assert {status for *_, status in bench.said} == {"firing"}
    assert not [order for order in bench.orders if isinstance(order, Lifted)]
    bills(bench, 2, period, period / 100)
    bench.spend(400, 0)
    assert [status for *_, status in bench.said].count("resolved") == 1
    assert bench.said[-1][2] == "resolved"


def test_an_order_that_is_obeyed_ends_though_no_bill_comes_any_more(bench):
    bills(bench, 10, 900, 9)
    bills(bench, 1, 900, 90)
    assert bench.said[-1][2] == "firing"
    bench.spend(3_600, 0)
    assert bench.said[-1][2] == "resolved"


@pytest.mark.parametrize("seed", range(4))
def test_steady_spending_of_which_some_is_billed_late_pages_nobody_from_the_first_charge_on(catalog, seed):
    """Nor after it was accepted: what was of the time before is not taken for all of it."""
    bench = Bench(catalog, seed)
    for second in range(5_400):
        charges = [(0.05, 0.0)] * bench.rng.poisson(0.3) + [(0.05, 1_200.0)] * bench.rng.poisson(0.15)
        charges += [(0.05, bench.rng.uniform(0, 1_200))] * bench.rng.poisson(0.1)
        if charges:
            bench.charge(*charges)
        if second == 2_700:
            accept(bench)
        bench.beat()
    assert not bench.said


def test_a_charge_before_the_clock_is_known_blinds_nobody(catalog):
    bench = Bench(catalog)
    bench.stage = StreamStage(catalog, 4)
    bench.charge((0.01, -80_000.0))
    bench.spend(600, 3)
    bench.spend(60, 30)
    assert bench.said[0][2] == "firing"


def test_a_credit_makes_the_hour_before_no_cheaper(bench):
    bench.spend(1_800, 5)
    bench.charge((-100.0, 0.0))
    bench.spend(1_800, 5)
    assert not bench.said


@pytest.mark.parametrize("refunds", [[(-1_000.0, 30.0)], [(-600.0, 30.0), (-400.0, 30.0)], [(-1_000.0, 0.0)],
                                     [(-600.0, 0.0), (-400.0, 0.0)]])  # fmt: skip
def test_a_mistake_hides_no_peak_however_it_was_taken_back(bench, refunds):
    bench.spend(600, 3)
    bench.charge((1_000.0, 0.0))
    for _ in range(30):
        bench.beat()
    bench.charge(*refunds)
    bench.spend(600, 3)
    before = len(bench.said)
    bench.spend(120, 30)
    assert bench.said[before:]
    assert bench.said[-1][2] == "firing"


def test_a_few_large_charges_of_unequal_size_are_no_peak(catalog):
    for seed in range(20):
        bench = Bench(catalog, seed)
        for _ in range(6 * 3_600 // 10):
            if bench.rng.random() < 10 * 6 / 3_600:
                bench.charge((30 * bench.rng.lognormal(0, 0.7), 0.0))
            bench.now += 9
            bench.beat()
        assert not bench.said, seed


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


def accept(bench, center=CENTER, **more):
    asked = {"cost_center": center, "by": "jane", "reason": "the campaign has begun", **more}
    headers = ((REBASELINE_HEADER, b"1"),)
    bench._keep(bench.stage.apply(bench.log.batch(SAMPLES, [asked], bench.now, headers)))


def test_a_peak_that_is_meant_can_be_accepted_and_its_order_is_lifted_at_once(bench):
    """While a scheduler obeys the order nothing is spent, so it would never become the usual by itself."""
    bench.spend(600, 3)
    bench.spend(30, 30)
    accept(bench)
    assert bench.said[-1][2] == "resolved"
    assert bench.orders[-1] == Lifted(*FREEZE)
    recorded = bench.alerts[-1]
    assert (recorded.name, recorded.severity, recorded.labels) == ("BaselineChanged", "info", {"cost_center": CENTER})
    assert recorded.notes == {"by": "jane", "reason": "the campaign has begun"}
    count = len(bench.said)
    bench.spend(900, 30)
    assert len(bench.said) == count, "it is the usual"
    bench.spend(60, 90)
    assert bench.said[-1][2] == "firing"


def test_a_freeze_for_a_spent_budget_is_not_lifted_with_it(bench):
    bench.spend(600, 3)
    bench.spend(30, 30)
    bench.charge((BUDGET_USD + 1, 0.0))
    accept(bench)
    assert bench.said[-1][2] == "resolved"
    assert Lifted(*FREEZE) not in bench.orders


def test_to_accept_what_nobody_spends_is_recorded_and_what_names_nothing_is_refused(bench):
    accept(bench, "other")
    assert [alert.name for alert in bench.alerts] == ["BaselineChanged"]
    assert bench.alerts[0].figures == {"watches": 0.0}
    accept(bench, "")
    accept(bench, signal="fidelity")
    assert len(bench.alerts) == 1
    assert bench.stage.counters["rebaselined", "other"] == 1


def test_the_order_stands_while_one_of_its_two_reasons_does(bench):
    bench.spend(600, 3)
    bench.spend(30, 30)
    bench.charge((BUDGET_USD + 1, 0.0))
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
