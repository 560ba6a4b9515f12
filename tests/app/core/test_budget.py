"""Hourly budgets: one order when the hour is spent, and its end with the hour."""

import msgspec
import pytest
from records import Log

from app.conventions import SAMPLES
from app.core.evidence import instant
from app.core.outcomes import Lifted, Pack, Spending
from app.core.streams import StreamStage

#: What charges say that their cost center may spend in an hour.
BUDGETS = {"logistics": 500.0}
#: The beginning of an hour.
HOUR = Log.START - Log.START % 3600 + 3600


class Bench:
    """A stream stage that is told of charges."""

    def __init__(self, catalog):
        self.stage, self.log, self.offset = StreamStage(catalog, 4), Log(), 0
        self.alerts, self.orders, self.lifted = [], [], []
        self.beat(HOUR + 1)

    def _keep(self, outcomes):
        self.alerts += outcomes.alerts
        self.orders += [each for each in outcomes.directives if not isinstance(each, Lifted)]
        self.lifted += [each for each in outcomes.directives if isinstance(each, Lifted)]

    def beat(self, at):
        for batch in self.log.agreed(SAMPLES, at):
            self._keep(self.stage.apply(batch))

    def spend(self, usd, center="logistics", runtime="quantum", at=HOUR + 10):
        pack = Pack("jobs", 0, self.offset, self.offset + 1)
        pack.spending.append(Spending(self.offset, at, center, runtime, round(usd * 1e6), BUDGETS.get(center)))
        self.offset += 1
        self._keep(self.stage.apply(self.log.batch(SAMPLES, [msgspec.msgpack.encode(pack)], at)))


@pytest.fixture
def bench(catalog):
    return Bench(catalog)


@pytest.fixture
def budget():
    return BUDGETS["logistics"]


def test_a_budget_is_spent_when_it_is_exceeded_over_all_runtimes(bench, budget):
    bench.spend(budget / 2)
    bench.spend(budget / 2, runtime="hybrid")
    assert not bench.orders, "all of it is within it"
    bench.spend(0.01, runtime="classical")
    bench.spend(5)
    (order,), (alert,) = bench.orders, bench.alerts
    assert (order.directive, order.target) == ("freeze_offload", "logistics")
    assert order.expires_at == instant(HOUR + 3600)
    assert (alert.name, alert.severity, alert.status) == ("HourlyBudgetSpent", "ticket", "firing")
    assert alert.figures == {"spent_usd": budget + 0.01, "budget_usd": budget}


def test_it_ends_with_the_hour_and_the_next_hour_is_its_own(bench, budget):
    bench.spend(budget + 1)
    bench.beat(HOUR + 3599)
    assert not bench.lifted
    bench.beat(HOUR + 3600)
    assert bench.lifted == [Lifted("freeze_offload", "logistics")]
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved"]
    bench.spend(budget, at=HOUR + 3700)
    assert len(bench.orders) == 1
    bench.spend(1, at=HOUR + 3700)
    assert len(bench.orders) == 2
    assert len({order.directive_id for order in bench.orders}) == 2


def test_it_ends_when_a_correction_brings_it_within_the_budget_and_begins_again_when_it_does_not_stay(bench, budget):
    bench.spend(budget + 1_000)
    bench.spend(-1_000)
    bench.beat(HOUR + 11)
    assert bench.lifted == [Lifted("freeze_offload", "logistics")]
    assert "within its budget" in bench.alerts[-1].summary
    bench.spend(1, at=HOUR + 20)
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved", "firing"]
    assert len({alert.alert_id for alert in bench.alerts}) == 3, "nobody takes one for a repeat of another"
    assert len({order.directive_id for order in bench.orders}) == 2


def test_of_an_hour_that_is_over_nothing_is_frozen_and_that_it_was_exceeded_is_said_once(bench, budget, catalog):
    bench.spend(budget / 2)
    bench.beat(HOUR + 7200)
    bench.spend(budget)
    bench.spend(1)
    assert not bench.orders
    (alert,) = bench.alerts
    assert (alert.name, alert.severity, alert.status) == ("HourlyBudgetSpent", "ticket", "firing")
    assert alert.labels == {"cost_center": "logistics", "billed": "late"}
    assert instant(HOUR + 3600) in alert.summary
    quiet = catalog.alerting.quiet_seconds
    bench.beat(HOUR + 7200 + quiet - 1)
    assert len(bench.alerts) == 1
    bench.beat(HOUR + 7200 + quiet)
    assert [each.status for each in bench.alerts] == ["firing", "resolved"]
    assert bench.alerts[0].fingerprint == bench.alerts[1].fingerprint
    bench.spend(1)
    assert (len(bench.alerts), bench.lifted) == (2, [])


def test_an_hour_that_was_said_as_it_went_on_is_not_said_again_when_more_is_billed(bench, budget):
    bench.spend(budget + 1)
    bench.beat(HOUR + 3600)
    bench.spend(5)
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved"]


def test_a_late_bill_that_is_taken_back_ends_what_was_said_and_may_be_said_again(bench, budget):
    bench.beat(HOUR + 7200)
    bench.spend(budget + 1)
    bench.spend(-10)
    bench.beat(HOUR + 7201)
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved"]
    assert "after all" in bench.alerts[-1].summary
    bench.spend(10)
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved", "firing"]


def test_an_hour_is_within_its_budget_or_not_for_all_runtimes_alike(bench, budget):
    """The budget is the cost center's; where there is none, nothing is promised."""
    bench.spend(budget * 0.6)
    bench.spend(budget * 0.6, runtime="hybrid")
    bench.spend(1, center="other")
    over = {("logistics", "quantum"): (1, 0), ("logistics", "hybrid"): (1, 0)}
    assert bench.stage.budget_hours() == over
    bench.beat(HOUR + 100 * 3600)
    bench.spend(1, at=HOUR + 100 * 3600)
    assert bench.stage.budget_hours() == {**over, ("logistics", "quantum"): (2, 1)}, "now it can change no more"
    assert len(bench.stage.hours) == 1


def test_a_charge_of_tomorrow_freezes_nothing_and_hides_nothing(bench, budget):
    bench.spend(budget + 1, at=HOUR + 86_400)
    assert not bench.orders
    bench.spend(budget + 1)
    assert len(bench.orders) == 1
    bench.stage.restore(bench.stage.snapshot())
    bench.spend(1, at=HOUR - 60 * 3600)
    assert bench.stage.counters["late_spend",] == 0, "nor does it make late what is not"


def test_a_cost_center_without_a_budget_is_nobody_s_to_freeze(bench):
    bench.spend(1e6, center="other")
    assert not bench.orders


def test_a_restored_stage_says_nothing_twice(bench, budget, catalog):
    bench.spend(budget + 1)
    restored = Bench(catalog)
    restored.stage.restore(bench.stage.snapshot())
    restored.offset = 1
    restored.alerts = []
    restored.spend(1)
    assert not restored.orders
    restored.beat(HOUR + 3601)
    assert restored.lifted == [Lifted("freeze_offload", "logistics")]
