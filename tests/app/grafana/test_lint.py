"""No finding of grafana/dashboard-linter's rules, and each rule finds what it is for."""

import copy
import json

import pytest
import yaml
from dashboard_linter import RULES, findings

from app.gameday.panels import DASHBOARDS

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
EXCLUSIONS = yaml.safe_load((DASHBOARDS.parent / ".lint").read_text())["exclusions"]


@pytest.mark.parametrize("name", BOARDS)
def test_nothing_is_found_beside_what_is_excluded(name):
    assert list(findings(BOARDS[name], EXCLUSIONS)) == []


def test_every_exclusion_has_a_reason_and_is_needed():
    for rule, excluded in EXCLUSIONS.items():
        assert excluded["reason"]
        for entry in excluded["entries"]:
            (board,) = [each for each in BOARDS.values() if each["title"] == entry["dashboard"]]
            assert any(panel == entry["panel"] for panel, _ in RULES[rule](board)), f"{rule}: {entry} excludes nothing"


def _expr(text):
    def change(board):
        board["panels"][0]["targets"][0]["expr"] = text

    return change


def _variable(variable, **fields):
    def change(board):
        next(each for each in board["templating"]["list"] if each["name"] == variable).update(fields)

    return change


def _panel(**fields):
    def change(board):
        board["panels"][0].update(fields)

    return change


#: Rule -> what it must find.
WRONG = {
    "template-datasource-rule": _variable("datasource", name="source"),
    "template-job-rule": _variable("job", multi=False),
    "template-instance-rule": _variable("instance", allValue=".*"),
    "template-label-promql-rule": _variable("job", query="label_values(qethics{, job)"),
    "template-on-time-change-reload-rule": _variable("job", refresh=1),
    "panel-datasource-rule": _panel(datasource={"uid": "prometheus"}),
    "panel-title-description-rule": _panel(description=""),
    "panel-units-rule": lambda board: board["panels"][0]["fieldConfig"]["defaults"].update(unit="smoots"),
    "panel-no-targets-rule": _panel(targets=[]),
    "target-promql-rule": _expr("sum(qethics_x{"),
    "target-rate-interval-rule": _expr('sum(rate(qethics_x_total{job=~"$job",instance=~"$instance"}[5m]))'),
    "target-job-rule": _expr('qethics_x{instance=~"$instance"}'),
    "target-instance-rule": _expr('qethics_x{job=~"$job"}'),
    "target-counter-agg-rule": _expr('sum(qethics_x_total{job=~"$job",instance=~"$instance"})'),
    "uneditable-dashboard-rule": lambda board: board.update(editable=True),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_finds_what_it_is_for(rule):
    board = copy.deepcopy(BOARDS["oncall"])
    WRONG[rule](board)
    assert list(RULES[rule](board)) != []
