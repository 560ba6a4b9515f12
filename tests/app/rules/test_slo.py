"""Objectives: the workbook's arithmetic, what is refused, OpenSLO, and the files that are made."""

import json
import re
from pathlib import Path

import pytest
import yaml
from command import one_line, qethics

from app.catalog import DEFAULT_DIRECTORY
from app.errors import SettingError
from app.rules import build, files
from app.rules.slo import Objective, seconds, slo

DEPLOY = DEFAULT_DIRECTORY.parent / "deploy"
COUNTERS = {"valid": "x_valid_total", "bad": "x_bad_total"}


def objective(value=0.999, **fields):
    return Objective(objective=value, owner="sre", summary="It fails.", **{**COUNTERS, **fields})


@pytest.mark.parametrize(
    ("period", "factors"),
    [
        # The workbook's, for 30 days, and the same shares of 28 days; Sloth's set for a week.
        ("30d", [14.4, 6, 3, 1]),
        ("28d", [13.44, 5.6, 2.8, 14 / 15]),
        ("7d", [13.44, 3.5, 1.4, 0.98]),
    ],
)
def test_factors_are_scaled_to_the_period(period, factors):
    burns = slo("x", objective(period=period)).burns
    assert [burn.factor for burn in burns] == pytest.approx(factors)
    assert [(burn.long, burn.short, burn.severity) for burn in burns] == [
        ("1h", "5m", "page"),
        ("6h", "30m", "page"),
        ("1d", "2h", "ticket"),
        ("3d", "6h", "ticket"),
    ]
    for burn in burns:
        assert seconds(burn.long) in {12 * seconds(burn.short)}


@pytest.mark.parametrize(("value", "detection"), [(0.999, 51.84), (0.99, 518.4), (0.95, 2592)])
def test_total_failure_pages_after_the_workbook_s_time(value, detection):
    (first, *_) = slo("x", objective(value)).burns
    assert first.threshold * seconds(first.long) == pytest.approx(detection)


def test_a_factor_that_can_never_fire_is_refused_with_the_arithmetic():
    with pytest.raises(SettingError) as caught:
        slo("coverage", objective(0.9))
    text = str(caught.value)
    assert "0.02 of the budget x 720 h / 1 h is 14.4 times" in text
    assert "14.4 x (1 - 0.9) = 1.44 of all events would have to be bad" in text
    assert "a rate of 10" in text
    assert "Set budgets.1h below 0.01389" in text
    assert slo("coverage", objective(0.9, budgets={"1h": 0.0138})).burns[0].threshold < 1
    assert [burn.long for burn in slo("coverage", objective(0.9, budgets={"1h": 0})).burns] == ["6h", "1d", "3d"]


def test_the_largest_objectives_that_the_factors_reach():
    """governance: 14.4 can never fire for an objective of 93.06 % or less, 6 not below 83.3 %."""
    for value, share in ((0.9305, "1h"), (0.8333, "6h")):
        keep = {long: 0.0 for long in ("1h", "6h", "1d", "3d") if long != share}
        with pytest.raises(SettingError, match="could never fire"):
            slo("x", objective(value, budgets=keep))
        assert slo("x", objective(value + 0.0005, budgets=keep)).burns


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"bad": None}, "either `good` or `bad`"),
        ({"good": "x_good_total"}, "either `good` or `bad`"),
        ({"valid": "rate(x[5m])"}, "is no counter"),
        ({"valid": 'x{tier="a"} or vector(1)'}, "is no counter"),
        ({"bad": 'x{tier="a\\"} or vector(1) or x{a="b"}'}, "is no counter"),
        ({"period": "30"}, "is no duration"),
        ({"period": "14d"}, "say `budgets`"),
        ({"silence": "soon"}, "is no duration"),
        ({"budgets": {"2h": 0.1}}, "no window 2h"),
        ({"budgets": {"1h": 2}}, "no share of a budget"),
        ({"budgets": {"1h": 0, "6h": 0, "1d": 0, "3d": 0}}, "nothing would ever fire"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields, why):
    with pytest.raises(SettingError, match=why):
        slo("x", objective(**fields))


OPENSLO = """
apiVersion: openslo/v1
kind: Service
metadata: {name: credit}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: explained}
spec:
  ratioMetric:
    counter: true
    good: {metricSource: {type: Prometheus, spec: {query: 'decisions_total{explained="yes"}'}}}
    total: {metricSource: {type: Prometheus, spec: {query: decisions_total}}}
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: explained-decisions
  annotations: {qethics.io/owner: responsible-ai, qethics.io/least-events: "50", qethics.io/silence: 10m}
spec:
  description: Decisions are explained.
  service: credit
  indicatorRef: explained
  timeWindow: [{duration: 30d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{targetPercent: 99}]
"""


def test_an_openslo_file_says_by_annotations_what_is_no_field_of_it(tmp_path):
    """At 90 % the usual shares could never fire; the error says what to set, and it can be set."""
    path = tmp_path / "openslo.yaml"
    shares = 'qethics.io/silence: 10m, qethics.io/budget-1h: "0.01", qethics.io/budget-6h: "0"'
    path.write_text(
        OPENSLO.replace("targetPercent: 99", "targetPercent: 90").replace("qethics.io/silence: 10m", shares)
    )
    (found,) = files.load(path).slos
    assert found.objective.budgets == {"1h": 0.01, "6h": 0.0}
    assert [burn.long for burn in found.of_severity("page")] == ["1h"]


def test_openslo_v1_is_read_as_our_own(tmp_path):
    path = tmp_path / "openslo.yaml"
    path.write_text(OPENSLO)
    (found,) = files.load(path).slos
    assert found.name == "explained_decisions"
    assert found.objective == Objective(
        objective=0.99,
        owner="responsible-ai",
        summary="Decisions are explained.",
        valid="decisions_total",
        good='decisions_total{explained="yes"}',
        least_events=50,
        silence="10m",
    )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("isRolling: true", "isRolling: false", "calendar windows are not built"),
        ("Occurrences", "Timeslices", "only Occurrences"),
        ("counter: true", "counter: false", "must be true"),
        ("type: Prometheus", "type: Datadog", "not Prometheus"),
        ("{targetPercent: 99}", "{targetPercent: 99}, {target: 0.9}", "there must be one"),
        ("indicatorRef: explained", "indicatorRef: other", "other is missing"),
        ("kind: Service", "kind: Servive", "no kind of openslo/v1"),
        ("targetPercent: 99", "targetPercent: 90", None),
    ],
)
def test_an_openslo_file_that_cannot_be_used_is_refused_by_name(tmp_path, old, new, why):
    path = tmp_path / "openslo.yaml"
    path.write_text(OPENSLO.replace(old, new))
    with pytest.raises(SettingError, match=why or "could never fire"):
        files.load(path)


def test_the_files_in_the_repository_are_those_of_the_objectives():
    slos = files.load(DEFAULT_DIRECTORY / "slos.yaml")
    assert build.stale(build.files(slos, "slos.yaml"), DEPLOY / "prometheus") == []


def checks():
    """Of every test of promtool: what it asks of which alert, as [(seconds, fires)], in the order of time."""
    for path in (DEPLOY / "prometheus" / "tests").rglob("*.yaml"):
        for test in yaml.load(path.read_text(), yaml.CSafeLoader)["tests"]:
            found = {}
            for check in test["promql_expr_test"]:
                selector = re.search(r"ALERTS\{(.*)\}", check["expr"])[1]
                labels = dict(re.findall(r'(\w+)="([^"]*)"', selector))
                of = labels.get("alertname"), labels.get("severity"), labels.get("slo")
                at = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", str(check["eval_time"])).groups("0")
                seconds = int(at[0]) * 3_600 + int(at[1]) * 60 + int(at[2])
                found.setdefault(of, []).append((seconds, bool(check["exp_samples"])))
            for of, asked in found.items():
                yield of, [fires for _, fires in sorted(asked)]


def alerts():
    """Every rule of Prometheus that alerts."""
    return [
        rule
        for path in (DEPLOY / "prometheus" / "rules").rglob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]


def test_every_alert_is_seen_to_be_quiet_to_fire_and_to_resolve():
    asked = {}
    for of, course in checks():
        asked.setdefault(of, []).append(course)
    for rule in alerts():
        if rule["alert"] == "Watchdog":
            continue  # it always fires
        labels = rule["labels"]
        courses = asked.get((rule["alert"], labels["severity"], labels.get("slo")), [])
        of = rule["alert"], labels
        assert any(not course[0] for course in courses), ("is quiet", of)
        assert any(True in course for course in courses), ("fires", of)
        assert any(True in course and not course[-1] for course in courses), ("resolves", of)


def test_every_rule_has_what_a_pager_needs():
    assert len(alerts()) > 30
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket", "none"}
        assert rule["labels"]["owner"]
        assert {"summary", "description", "runbook_url", "dashboard_url"} <= set(rule["annotations"])
        assert "{{" not in rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"http://127.0.0.1:6068/runbooks/{rule['alert']}"


def test_build_writes_what_is_made_and_removes_what_no_longer_is(tmp_path):
    slos = tmp_path / "slos.yaml"
    one = {"objective": 0.999, "owner": "sre", "summary": "It fails.", **COUNTERS}
    slos.write_text(yaml.safe_dump({"runbooks": "http://127.0.0.1:6068/runbooks", "slos": {"one": one, "two": one}}))
    arguments = ("rules", "build", "--slos", str(slos), "--directory", str(tmp_path / "deploy"))
    done = qethics(*arguments, "--json")
    assert json.loads(done.stdout)["without_runbook"] == ["OneBudgetBurn", "TwoBudgetBurn"]
    made = tmp_path / "deploy" / "prometheus"
    assert {path.name for path in made.rglob("*.yaml")} == {
        "one.yaml", "one.fast.yaml", "one.slow.yaml", "two.yaml", "two.fast.yaml", "two.slow.yaml",
    }  # fmt: skip
    slos.write_text(yaml.safe_dump({"runbooks": "http://127.0.0.1:6068/runbooks", "slos": {"one": one}}))
    one_line(qethics(*arguments), "rules of two would be removed", "--remove")
    assert (made / "rules" / "slo" / "two.yaml").exists()
    assert "two.yaml (removed)" in qethics(*arguments, "--remove").stdout
    assert {path.name for path in made.rglob("*.yaml")} == {"one.yaml", "one.fast.yaml", "one.slow.yaml"}


def test_an_objective_that_cannot_be_is_one_line_that_says_what_to_do(tmp_path):
    slos = tmp_path / "slos.yaml"
    one = {"objective": 0.9, "owner": "sre", "summary": "It fails.", **COUNTERS}
    slos.write_text(yaml.safe_dump({"runbooks": "http://x", "slos": {"one": one}}))
    one_line(qethics("rules", "build", "--slos", str(slos), "--directory", str(tmp_path)), "could never fire")
    assert not list(Path(tmp_path).rglob("one.yaml"))
