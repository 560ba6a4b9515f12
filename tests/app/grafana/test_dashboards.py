"""The dashboards: current, provisioned, with the panels that the source document lists, on metrics that exist."""

import importlib.util
import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from collecting import Publisher, Shell
from prometheus_client import CollectorRegistry

from app.catalog import DEFAULT_DIRECTORY
from app.core.incidents import Incidents
from app.core.paging import Book
from app.gameday.panels import filled
from app.paging.desk import Desk
from app.paging.metrics import PagerCollector
from app.policy.watch import Source, Watch
from app.sinks.loss_metrics import LossCollector
from app.sinks.metrics import StageCollector
from app.sinks.policy_metrics import PolicyCollector
from app.stream.partitions import PartitionWatch

GRAFANA = DEFAULT_DIRECTORY.parent / "grafana"
#: The panels, as the source document lists them.
PANELS = {
    "executive": [
        "Ethics compliance summary",
        "Spend burn rate on quantum",
        "High-risk incidents",
        "Trend of explainability coverage",
    ],
    "oncall": [
        "Recent policy violations and highest severity events",
        "Reproducibility queue and failing replays",
        "Active job queue lengths and timeouts",
        "Recent rollbacks and canary health",
    ],
    "debug": [
        "Per-run trace views with provenance metadata",
        "Fidelity metric distribution over time",
        "Raw decision outputs for sampled runs",
        "Admission control evaluation logs",
    ],
}


def read(name):
    return json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())


every = pytest.mark.parametrize("name", PANELS)


def expressions(name):
    """Every PromQL expression of a dashboard, with its variables filled in."""
    document = read(name)
    found = [target["expr"] for panel in document["panels"] for target in panel["targets"] if "expr" in target]
    found += [each["expr"] for each in document["annotations"]["list"]]
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            found.append(re.fullmatch(r"label_values\((.*), \w+\)", variable["query"])[1])
    return [filled(text) for text in found]


def test_the_files_are_those_of_the_code():
    spec = importlib.util.spec_from_file_location("grafana_build", GRAFANA / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0


@every
def test_a_dashboard_has_the_panels_of_the_source_and_no_other(name):
    assert [panel["title"] for panel in read(name)["panels"]] == PANELS[name]


@every
def test_a_dashboard_can_be_provisioned_and_is_templated(name):
    document = read(name)
    assert document["uid"] == f"qethics-{name}"
    assert "id" not in document or document["id"] is None
    assert document["editable"] is False
    assert document["links"][0]["tags"] == ["qethics"]
    names = [variable["name"] for variable in document["templating"]["list"]]
    assert names[:4] == ["datasource", "tempo_datasource", "job", "instance"]
    assert [each["name"] for each in document["annotations"]["list"]] == ["Orders", "Recalibrations"]
    for panel in document["panels"]:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] in {"${datasource}", "${tempo_datasource}"}


def test_a_run_in_a_table_of_traces_leads_to_its_page():
    """With the time as a number: the page cannot read a date as Grafana writes it."""
    for panel in read("debug")["panels"]:
        if any(target["datasource"]["uid"] == "${tempo_datasource}" for target in panel["targets"]):
            (link,) = [
                link["url"]
                for override in panel["fieldConfig"]["overrides"]
                for each in override["properties"]
                if each["id"] == "links"
                for link in each["value"]
            ]
            assert link == "${pager}/runs/${__value.text}?at=${__data.fields.time.numeric}"


@every
def test_every_query_parses_and_is_about_the_processes_that_were_chosen(name):
    found = expressions(name)
    assert found
    for text in found:
        promql_parser.parse(text)
        if "build_info" not in text:
            for selector in re.findall(r"qethics_\w+(\{[^}]*\})?", text):
                assert 'job=~"qethics.*",instance=~".+"' in selector


@pytest.fixture(scope="module")
def names(catalog, policy):
    """Every metric that a worker or a pager shows."""
    registry = CollectorRegistry()
    registry.register(StageCollector(Shell(catalog, policy), Publisher(), lambda: {}, catalog, {"version": "1"}))
    registry.register(
        PagerCollector(Book(""), lambda: [], Desk(Incidents(), None, None), lambda: 0, lambda: 1.0, {"version": "1"})
    )
    watch = Watch(Source(Path("bundle"), None, Path("version")), None, in_force=dict, activate=None)
    registry.register(PolicyCollector(dict, watch))
    registry.register(LossCollector(Shell(catalog, policy), PartitionWatch((), 4, None, None)))
    kinds = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    return {family.name + suffix for family in registry.collect() for suffix in kinds.get(family.type, [""])}


@every
def test_every_metric_exists(name, names):
    used = {metric for text in expressions(name) for metric in re.findall(r"qethics_\w+", text)}
    assert used <= names


def test_every_metric_of_a_rule_exists(names):
    rules = (DEFAULT_DIRECTORY.parent / "deploy" / "prometheus" / "rules").rglob("*.yaml")
    used = {
        metric
        for path in rules
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        for metric in re.findall(r"\bqethics_\w+", rule["expr"])
    }
    assert used <= names


def test_provisioning_names_what_is_there():
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/qethics.yaml").read_text())["providers"]
    assert provider["allowUiUpdates"] is False
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/qethics.yaml").read_text())["datasources"]
    assert {source["type"] for source in sources} == {"prometheus", "tempo"}
    uids = {source["uid"] for source in sources}
    for destination in sources[0]["jsonData"]["exemplarTraceIdDestinations"]:
        assert destination["datasourceUid"] in uids
    assert Path(GRAFANA / "dashboards").is_dir()
