"""Rules that runs break: one alert a rule, however many runs, whatever a restart repeats."""

import msgspec
import pytest
from records import Log

from app.conventions import JOBS, SAMPLES
from app.core.conditions import KEPT
from app.core.identity import fingerprint8
from app.core.outcomes import Broken, Pack
from app.core.streams import StreamStage


class Bench:
    """A stream stage that is told of broken rules."""

    def __init__(self, catalog):
        self.stage, self.log, self.now, self.offset, self.alerts = StreamStage(catalog, 4), Log(), Log.START, 0, []
        self.beat(1)

    def beat(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.alerts += self.stage.apply(self.log.heartbeat(SAMPLES, self.now)).alerts

    def broke(self, *runs, rule="consent_scope", severity="high"):
        found = [
            Broken(fingerprint8(f"{rule} {run}"), self.now, run, rule, severity, "governance", "no consent")
            for run in runs
        ]
        self.offset += 1
        pack = Pack(JOBS, 0, self.offset - 1, self.offset, broken=found)
        batch = self.log.batch(SAMPLES, [msgspec.msgpack.encode(pack)], self.now)
        self.alerts += self.stage.apply(batch).alerts


@pytest.fixture
def bench(catalog):
    return Bench(catalog)


def test_a_thousand_runs_that_break_a_rule_are_one_alert_with_their_count(bench):
    for number in range(1_000):
        bench.broke(f"run-{number}")
        if number % 10 == 0:
            bench.beat(1)
    bench.beat(301)
    assert len({alert.fingerprint for alert in bench.alerts}) == 1
    assert [alert.status for alert in bench.alerts] == ["firing", "firing", "firing", "resolved"]
    assert bench.alerts[-2].figures == {"runs": 1_000.0}
    first, *_, last = bench.alerts
    assert (first.name, first.severity) == ("PolicyViolation", "ticket")
    assert first.labels == {"rule": "consent_scope", "rule_severity": "high", "owner": "governance"}
    assert last.figures == {"runs": 1_000.0}
    assert len(last.run_ids) == 10


def test_a_burst_is_said_again_with_its_whole_count_and_then_no_more(bench):
    for number in range(1_000):
        bench.broke(f"run-{number}")
    assert [alert.figures for alert in bench.alerts] == [{"runs": 1.0}]
    bench.beat(59)
    assert len(bench.alerts) == 1
    bench.beat(241)
    first, again, _ = bench.alerts
    assert [each.status for each in bench.alerts] == ["firing", "firing", "resolved"]
    assert again.figures == {"runs": 1_000.0}
    assert again.run_ids == tuple(f"run-{number}" for number in range(990, 1_000))
    assert (again.fingerprint, again.summary) == (first.fingerprint, first.summary)
    assert len({each.alert_id for each in bench.alerts}) == 3


def test_what_a_restarted_run_stage_says_again_is_counted_once(bench):
    bench.broke("run-1", "run-2")
    bench.broke("run-1", "run-2", "run-3")
    bench.beat(301)
    assert bench.alerts[-1].figures == {"runs": 3.0}


def test_what_was_handed_on_with_another_log_before_is_not_lost(bench):
    """A pack of a range that was taken in already may hold a violation that was not in it the first time."""
    bench.broke("run-1")
    bench.offset -= 1
    bench.broke("run-2")
    bench.beat(301)
    assert bench.alerts[-1].figures == {"runs": 2.0}


def test_a_restored_stage_goes_on(bench, catalog):
    bench.broke("run-1")
    restored = Bench(catalog)
    restored.stage.restore(bench.stage.snapshot())
    restored.now = bench.now
    restored.broke("run-1", "run-2")
    restored.beat(301)
    again, over = restored.alerts
    assert (again.status, again.figures) == ("firing", {"runs": 2.0})
    assert (over.status, over.figures) == ("resolved", {"runs": 2.0})


def test_causes_without_end_share_a_place(bench):
    for number in range(KEPT + 20):
        bench.broke(f"run-{number}", rule=f"rule_{number}")
    names = {alert.labels["rule"] for alert in bench.alerts}
    assert len(names) == KEPT + 1
    assert "other" in names
