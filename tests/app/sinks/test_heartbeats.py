"""How old heartbeats are, of partitions that go on, catch up, or get nothing: no case is silent."""

import time

import pytest
from collecting import Publisher, Shell
from prometheus_client import CollectorRegistry
from records import Log

from app.core.runs import RunStage
from app.sinks.metrics import StageCollector


@pytest.fixture
def shell(catalog, policy):
    return Shell(catalog, policy, 1)


def age(shell, catalog):
    registry = CollectorRegistry()
    registry.register(StageCollector(shell, Publisher(), lambda: {}, catalog, {"version": "1"}))
    return registry.get_sample_value("qethics_heartbeat_age_seconds", {"partition": "0"})


def unit(shell, *, has_caught_up, applied, heard=None):
    """The run stage's unit: taking something in, hearing a heartbeat so many seconds ago."""
    now = time.time()
    found = shell.units["runs", 0]
    found.has_caught_up, found.applied_at = has_caught_up, now - applied
    if heard is not None:
        for topic in RunStage.topics:
            found.stage.apply(Log(0).heartbeat(topic, now - heard))


def test_a_partition_that_goes_on_is_as_old_as_its_last_heartbeat(shell, catalog):
    unit(shell, has_caught_up=True, applied=1, heard=7)
    assert age(shell, catalog) == pytest.approx(7, abs=1)


def test_a_partition_that_catches_up_is_not_stale_while_it_takes_something_in(shell, catalog):
    unit(shell, has_caught_up=False, applied=2, heard=5_000)
    assert age(shell, catalog) == pytest.approx(2, abs=1)


def test_a_partition_that_gets_nothing_after_a_restart_grows_old(shell, catalog):
    unit(shell, has_caught_up=False, applied=50)
    assert age(shell, catalog) == pytest.approx(50, abs=1)
