"""Every alert has a runbook, and every command in a runbook exists."""

import re
import shlex

import pytest
import yaml
from command import qethics

from app import conventions
from app.catalog import DEFAULT_DIRECTORY
from app.conventions import DRIFT_ALERTS, GRAVE_ALERTS
from app.paging.http import RUNBOOKS

RULES = DEFAULT_DIRECTORY.parent / "deploy" / "prometheus" / "rules"
BOOKS = sorted(RUNBOOKS.glob("*.md"))
BURNS = [path for path in BOOKS if path.stem.endswith("BudgetBurn")]


def rules():
    """(file, rule) of every rule that Prometheus has."""
    for path in RULES.rglob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path, rule


def alerts():
    """Every alert that there is: of the processor, of the pager, of Prometheus."""
    found = {value for name, value in vars(conventions).items() if name.endswith("_ALERT")}
    found |= {*DRIFT_ALERTS.values(), *GRAVE_ALERTS.values()}
    return found | {rule["alert"] for _, rule in rules() if "alert" in rule}


def commands():
    """What stands in the code blocks of all runbooks, without what a person fills in."""
    found = set()
    for path in BOOKS:
        for block in re.findall(r"```\n(.*?)```", path.read_text(), re.DOTALL):
            found |= set(block.strip().splitlines())
    return sorted(found)


def test_there_is_a_runbook_for_each_alert_and_none_for_another():
    assert {path.stem for path in BOOKS} == alerts()


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_runbook_says_what_to_look_at_what_to_do_and_when_it_is_over(path):
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n\nSeverity: ")
    for part in ("## Look\n", "## Do\n", "## When it is over\n"):
        assert len(text.split(part)[1].strip()) > 5


@pytest.mark.parametrize("path", BURNS, ids=lambda path: path.stem)
def test_a_runbook_of_an_objective_says_its_severities_and_names_series_that_are_recorded(path):
    text = path.read_text()
    (where,) = {where for where, rule in rules() if rule.get("alert") == path.stem}
    severities = {rule["labels"]["severity"] for _, rule in rules() if rule.get("alert") == path.stem}
    said = re.search(r"^Severity: (.*)$", text, re.MULTILINE)[1]
    assert {name for name in ("page", "ticket") if name in said} == severities
    recorded = {rule["record"] for file, rule in rules() if file == where and "record" in rule}
    assert set(re.findall(r"`(qethics:[^`]+)`", text)) <= recorded


def test_no_ticket_silences_a_page():
    """What may be a ticket inhibits tickets alone, unless the rule is about the page."""
    inhibits = yaml.safe_load((RULES.parents[1] / "alertmanager" / "alertmanager.yaml").read_text())["inhibit_rules"]
    assert inhibits
    for rule in inhibits:
        source, target = ",".join(rule["source_matchers"]), ",".join(rule["target_matchers"])
        if 'severity = "page"' in source or 'severity = "ticket"' in target:
            continue
        names = re.search(r'alertname =~? "([^"]+)"', source)[1].split("|")
        for name in names:
            assert "Severity: page." in (RUNBOOKS / f"{name}.md").read_text(), rule


@pytest.mark.parametrize("command", commands())
def test_a_command_of_a_runbook_exists_with_its_options(command):
    name, *arguments = shlex.split(command)
    assert name == "qethics"
    words = []
    for argument in arguments:
        if argument.startswith("-") or argument.isupper():
            break
        words.append(argument)
    done = qethics(*words, "--help")
    assert done.returncode == 0, done.stderr
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in done.stdout, option
