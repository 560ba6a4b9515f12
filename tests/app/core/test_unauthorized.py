"""Unauthorized routings (F3): one alert and one order an endpoint, and their end."""

import msgspec
import pytest
from records import Log

from app.conventions import SAMPLES
from app.core.orders import active
from app.core.outcomes import Lifted, Pack, Unauthorized
from app.core.streams import StreamStage
from app.sinks import directives

LIFTED = Lifted("disable_routing", "braket-us-west-1")


class Logged:
    """A stream stage and its log, with heartbeats."""

    def __init__(self, catalog):
        self.stage, self.log, self.now = StreamStage(catalog, 4), Log(), Log.START
        self.offset = 0
        self.alerts, self.orders, self.lifted = [], [], []
        self.beat(1)

    def _keep(self, outcomes):
        self.alerts += outcomes.alerts
        self.orders += [each for each in outcomes.directives if not isinstance(each, Lifted)]
        self.lifted += [each for each in outcomes.directives if isinstance(each, Lifted)]
        return outcomes

    def sent(self, *runs, endpoint="braket-us-west-1", at=None):
        found = []
        for run in runs:
            when = self.now if at is None else at
            found.append(Unauthorized(self.offset, when, run, "aws-braket", endpoint, "not approved"))
            self.offset += 1
        pack = Pack("jobs", 0, self.offset - len(runs), self.offset, unauthorized=found)
        return self._keep(self.stage.apply(self.log.batch(SAMPLES, [msgspec.msgpack.encode(pack)], self.now)))

    def beat(self, seconds, step=1):
        for _ in range(0, seconds, step):
            self.now += step
            self._keep(self.stage.apply(self.log.heartbeat(SAMPLES, self.now)))


@pytest.fixture
def logged(catalog):
    return Logged(catalog)


def test_many_runs_to_one_endpoint_are_one_alert_and_one_order(logged):
    for number in range(500):
        logged.sent(f"run-{number}")
    (alert,), (order,) = logged.alerts, logged.orders
    assert (alert.name, alert.severity, alert.status) == ("UnauthorizedRouting", "page", "firing")
    assert alert.labels == {"provider": "aws-braket", "endpoint": "braket-us-west-1"}
    assert (order.directive, order.target) == ("disable_routing", "braket-us-west-1")
    assert order.issued_at < order.expires_at


@pytest.mark.parametrize("hours", [-5, 5])
def test_an_order_holds_from_now_whatever_the_clock_of_the_producer_says(logged, hours):
    logged.sent("run-0", at=logged.now + hours * 3_600)
    (order,) = logged.orders
    assert active([order], logged.now) == [order]


def test_the_order_is_given_again_while_it_goes_on_and_the_runs_are_counted(logged):
    logged.sent("run-0", "run-1")
    logged.beat(310)
    assert logged.lifted == [LIFTED], "five minutes without one are recovery"
    logged.alerts, logged.orders = [], []
    for number in range(2, 200):
        logged.sent(f"run-{number}")
        logged.beat(20)
    # At once, and then at the end of each minute, with the runs that came until then.
    assert len(logged.orders) == len(logged.alerts) == 67
    assert [alert.figures["runs"] for alert in logged.alerts] == [1.0, *(3.0 * minute for minute in range(1, 67))]
    assert len({alert.alert_id for alert in logged.alerts}) == 67
    assert len({order.directive_id for order in logged.orders}) == 67
    assert len({alert.fingerprint for alert in logged.alerts}) == 1
    assert logged.alerts[-1].run_ids == tuple(f"run-{number}" for number in range(190, 200))


def test_recovery_resolves_the_alert_once_and_lifts_the_order(logged):
    logged.sent("run-0")
    logged.beat(295)
    assert not logged.lifted
    logged.beat(10)
    firing, resolved = logged.alerts
    assert (resolved.status, resolved.fingerprint) == ("resolved", firing.fingerprint)
    assert logged.lifted == [LIFTED]
    logged.beat(2_000)
    assert len(logged.alerts) == 2


def test_an_order_that_is_lifted_is_a_tombstone_on_the_topic(logged):
    outcomes = logged.sent("run-0")
    (line,) = directives.SINK.lines(outcomes)
    assert line.key == b"disable_routing/braket-us-west-1"
    assert line.value
    outcomes.directives = [LIFTED]
    (line,) = directives.SINK.lines(outcomes)
    assert (line.key, line.value) == (b"disable_routing/braket-us-west-1", None)


def test_endpoints_without_end_share_a_place_that_disables_nothing(logged):
    for number in range(200):
        logged.sent(f"run-{number}", endpoint=f"made-up-{number}")
    assert len(logged.orders) == 64
    assert len(logged.alerts) == 65
    assert logged.alerts[-1].labels["endpoint"] == "other"
    logged.beat(1_000)
    assert len(logged.lifted) == 64


@pytest.mark.parametrize("endpoint", ["unknown", "other"])
def test_what_names_no_endpoint_disables_none(logged, endpoint):
    logged.sent("run-0", endpoint=endpoint)
    logged.beat(1_000)
    assert [alert.status for alert in logged.alerts] == ["firing", "resolved"]
    assert not logged.orders
    assert not logged.lifted


def test_repeats_change_nothing_and_a_restored_stage_goes_on(logged, catalog):
    logged.sent("run-0")
    logged.offset = 0
    again = logged.sent("run-0")
    assert not again.alerts
    restored = Logged(catalog)
    restored.stage.restore(logged.stage.snapshot())
    restored.offset = 1
    assert not restored.sent("run-1").alerts
    restored.now = logged.now
    restored.beat(905)
    assert [alert.status for alert in restored.alerts] == ["firing", "resolved"]
    assert [alert.figures["runs"] for alert in restored.alerts] == [2.0, 2.0]
    assert len(restored.orders) == 1
