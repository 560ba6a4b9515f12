"""Game days: every failure of the contract is seen in time through the real Alertmanager, and nothing else is."""

import asyncio
import json
import os

import pytest
from command import qethics

from app import kafka
from app.conventions import ALERTS
from app.settings import load

pytestmark = [pytest.mark.once, pytest.mark.alone]

FULL = os.environ.get("PROVE", "full") == "full"
#: Twice in a row, with ten minutes of steady traffic.
DAYS = [("1", "600", "100"), ("2", "600", "100")]


def test_in_short_an_unauthorized_routing_is_seen_and_nothing_else(bootstrap):
    """On a broker that is given. Not how soon, nor its end: a machine may be busy, and both take the time of a day."""
    arguments = ("F3", "--seed", "3", "--steady", "160", "--spacing", "60", "--recovery", "1", "--json")
    done = qethics("gameday", *arguments, "--bootstrap", bootstrap, timeout=900)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    (row,) = report["scenarios"]
    assert row["detected"]
    assert row["severity_ok"]
    assert row["directive_ok"]
    assert (row["false_alerts"], row["page_groups"], report["steady_alerts"]) == (0, 1, 0), report
    assert report["bundles_lack"]
    assert not any(report["bundles_lack"].values())
    topics = asyncio.run(kafka.list_topics(load({}, bootstrap=bootstrap)))
    assert report["topic_prefix"] + ALERTS in topics, "its topics stay, to be looked into"


@pytest.mark.skipif(not FULL, reason="takes an hour; `make prove` runs it")
@pytest.mark.parametrize(("seed", "steady", "spacing"), DAYS)
def test_every_failure_is_seen_in_time_and_nothing_else(seed, steady, spacing):
    arguments = ("all", "--seed", seed, "--steady", steady, "--spacing", spacing, "--json")
    done = qethics("gameday", *arguments, timeout=3_600)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    print(json.dumps(report, indent=1))  # noqa: T201 - the scoreboard belongs into the log
    assert report["steady_alerts"] == 0, report["steady"]
    rows = {row["id"]: row for row in report["scenarios"]}
    assert list(rows) == ["F1", "F2", "F3", "F4", "F5", "F6"]
    for name, row in rows.items():
        assert row["detected"], name
        assert row["within"], (name, row["seconds"])
        assert row["severity_ok"], (name, row["severity"])
        assert row["directive_ok"], name
        assert row["resolved"], name
        assert row["false_alerts"] == 0, (name, row["false"])
    # A fifth of all runs went where they may not go: one page.
    assert rows["F3"]["page_groups"] == 1
    assert report["panel_queries"] == 20
    assert report["panel_queries_without_data"] == []
    assert len(report["bundles_lack"]) >= len(rows)
    assert not any(report["bundles_lack"].values())
    assert done.returncode == 0
