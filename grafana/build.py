"""The dashboards, as code: `python grafana/build.py` writes `grafana/dashboards/*.json`; `--check` says what is stale.

Each has exactly the panels that the source document lists for it, under its own names.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, tempo, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    GridPos,
    VariableRefresh,
)

DIRECTORY: Final = Path(__file__).parent / "dashboards"
#: What a query is about: the workers, or the pager, that Prometheus scrapes.
_OF: Final = 'job=~"$job",instance=~"$instance"'
_METRICS: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_TRACES: Final = DataSourceRef(type_val="tempo", uid="${tempo_datasource}")
_TAG: Final = "qethics"


def query(
    expression: str, legend: str, ref: str, *, instant: bool = False, exemplar: bool = False
) -> prometheus.Dataquery:
    """A query; `%s` stands for the matchers of job and instance."""
    made = prometheus.Dataquery().expr(expression.replace("%s", _OF)).legend_format(legend).ref_id(ref)
    made = made.datasource(_METRICS).exemplar(exemplar)
    return made.instant() if instant else made.range()


def bad_share(sli: str, counted: str, by: str = "") -> str:
    """The share of bad events of an indicator; `counted` is e.g. `rate(#[5m])`."""

    def total(side: str) -> str:
        return f"sum{by} ({counted.replace('#', f'qethics_{sli}_{side}_total{{%s}}')})"

    return f"{total('bad')} / {total('valid')}"


def increase(metric: str, by: str = "", labels: str = "") -> str:
    """How much a counter rose in a step of the panel."""
    return f"sum{by} (increase(qethics_{metric}{{%s{labels}}}[$__rate_interval]))"


def traces(span: str, *attributes: str) -> tempo.TempoQuery:
    """A search for spans of runs, with some of their attributes."""
    of_run = f'{{ resource.service.name = "qethics" && name = "{span}" && span.qethics.run_id =~ "$run" }}'
    shown = ", ".join(f"span.qethics.{name}" for name in ("run_id", *attributes))
    found = tempo.TempoQuery().query_type("traceql").query(f"{of_run} | select({shown})")
    return found.limit(50).ref_id("A").datasource(_TRACES)


def with_run_page(made: table.Panel) -> table.Panel:
    """A table whose run ids lead to the page of the run, which the pager has (`qethics pager`)."""
    link = {
        "title": "The page of this run",
        "url": "${pager}/runs/${__value.text}?at=${__data.fields.time.numeric}",
        "targetBlank": True,
    }
    return made.override_by_regexp(".*run_id$", [DynamicConfigValue(id_val="links", value=[link])])


def panel(made: Any, title: str, description: str, unit: str, place: tuple[int, int, int, int], *targets: Any) -> Any:
    """A panel with everything that one must have; `place` is x, y, width and height."""
    x, y, w, h = place
    made = made.datasource(_TRACES if isinstance(targets[0], tempo.TempoQuery) else _METRICS)
    made = made.title(title).description(description).unit(unit).grid_pos(GridPos(h=h, w=w, x=x, y=y))
    for target in targets:
        made = made.with_target(target)
    return made


def dashboard(name: str, title: str, description: str, panels: Sequence[Any], *, runs: bool = False) -> d.Dashboard:
    """A dashboard with what all three have in common: variables, links, annotations."""
    made = (
        d.Dashboard(title)
        .uid(f"qethics-{name}")
        .description(description)
        .tags([_TAG])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("utc")
        .with_variable(d.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(d.DatasourceVariable("tempo_datasource").label("Tempo data source").type("tempo"))
    )
    for label in ("job", "instance"):
        variable = (
            d.QueryVariable(label)
            .label(label.capitalize())
            .datasource(_METRICS)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
        scope = "" if label == "job" else '{job=~"$job"}'
        variable = variable.query(f"label_values(qethics_build_info{scope}, {label})")
        made = made.with_variable(variable.multi(True).include_all(True).all_value(".+"))
    if runs:
        made = made.with_variable(d.TextBoxVariable("run").label("Run id").default_value(".*"))
        made = made.with_variable(d.TextBoxVariable("pager").label("Pager").default_value("http://127.0.0.1:6068"))
    link = d.DashboardLink("qethics").type(DashboardLinkType.DASHBOARDS).tags([_TAG]).include_vars(True).keep_time(True)
    made = made.link(link)
    for text, expression, color in (
        ("Orders", f'sum by (directive) (increase(qethics_directives_total{{{_OF},act="issued"}}[1m])) > 0', "orange"),
        ("Recalibrations", f"sum by (backend) (increase(qethics_recalibrations_total{{{_OF}}}[1m])) > 0", "blue"),
    ):
        made = made.annotation(
            d.AnnotationQuery().name(text).datasource(_METRICS).expr(expression).icon_color(color).enable(True)
        )
    for each in panels:
        made = made.with_panel(each)
    return made


def run_link() -> d.DashboardLink:
    """From a panel to the runs behind it."""
    return (
        d.DashboardLink("Runs")
        .type(DashboardLinkType.LINK)
        .url("/d/qethics-debug?var-run=.*&${__url_time_range}&${datasource:queryparam}&${tempo_datasource:queryparam}")
    )


def executive() -> d.Dashboard:
    """What leaders are to see: business and regulatory risk."""
    return dashboard(
        "executive",
        "qethics / executive",
        "Business and regulatory risk at a glance.",
        [
            panel(
                stat.Panel(),
                "Ethics compliance summary",
                "Closed runs with every field of evidence that their tier requires, and runs that broke a rule.",
                "percentunit",
                (0, 0, 12, 8),
                query(
                    f"1 - {bad_share('provenance_completeness', 'increase(#[$__range])')}",
                    "provenance complete",
                    "A",
                    instant=True,
                ),
                query(
                    bad_share("policy_conformance", "increase(#[$__range])"), "policy violation rate", "B", instant=True
                ),
            ),
            panel(
                timeseries.Panel(),
                "Spend burn rate on quantum",
                "Dollars an hour by cost center, beside its own baseline and its budget.",
                "currencyUSD",
                (12, 0, 12, 8),
                query("sum by (cost_center) (qethics_spend_dollars_per_hour{%s})", "{{cost_center}}", "A"),
                query(
                    "sum by (cost_center) (qethics_spend_baseline_dollars_per_hour{%s})", "{{cost_center}} usual", "B"
                ),
                query(
                    "max by (cost_center) (qethics_spend_budget_dollars_per_hour{%s})", "{{cost_center}} budget", "C"
                ),
            ),
            panel(
                stat.Panel(),
                "High-risk incidents",
                "Incidents that page and are open, and the hours to resolve them: of a few skewed ones the median too.",
                "short",
                (0, 8, 12, 8),
                query('sum(qethics_incidents_open{%s,severity="page"})', "open", "A", instant=True),
                query(_to_resolve("median"), "median hours to resolve", "B", instant=True),
                query(_to_resolve("mean"), "mean hours to resolve (MTTR)", "C", instant=True),
            ),
            panel(
                timeseries.Panel(),
                "Trend of explainability coverage",
                "Decisions whose explanation reaches their workload's floor, by tier.",
                "percentunit",
                (12, 8, 12, 8),
                query(
                    "1 - " + bad_share("explainability_coverage", "rate(#[$__rate_interval])", " by (tier)"),
                    "{{tier}}",
                    "A",
                ),
            ),
        ],
    )


def _to_resolve(figure: str) -> str:
    return f'max(qethics_incident_phase_{figure}_seconds{{%s,severity="page",phase="resolve"}}) / 3600'


def oncall() -> d.Dashboard:
    """What a responder is to see: enough to diagnose and act."""
    return dashboard(
        "oncall",
        "qethics / on-call",
        "What responders need to diagnose and act.",
        [
            panel(
                timeseries.Panel(),
                "Recent policy violations and highest severity events",
                "Rules broken, by severity and rule, and runs that were sent where they may not go.",
                "short",
                (0, 0, 12, 9),
                query(increase("policy_violations_total", " by (severity, rule)"), "{{severity}} {{rule}}", "A"),
                query(increase("authorized_routing_bad_total", " by (provider)"), "unauthorized: {{provider}}", "B"),
            ).links([run_link()]),
            panel(
                timeseries.Panel(),
                "Reproducibility queue and failing replays",
                "Runs that wait for their replay, and what was said of replays.",
                "short",
                (12, 0, 12, 9),
                query("sum(qethics_replays_waiting{%s})", "waiting", "A"),
                query(increase("replays_total", " by (answer)"), "{{answer}}", "B"),
            ).links([run_link()]),
            panel(
                timeseries.Panel(),
                "Active job queue lengths and timeouts",
                "Open runs by how far they are, runs that timed out, and the wait that nine in ten stay below.",
                "short",
                (0, 9, 12, 9),
                query("sum by (state) (qethics_open_runs{%s})", "{{state}}", "A"),
                query(increase("runs_ended_total", labels=',state="timed_out"'), "timed out", "B"),
                query(
                    "histogram_quantile(0.9, sum by (le) "
                    "(rate(qethics_queue_wait_seconds_bucket{%s}[$__rate_interval])))",
                    "wait p90 (s)",
                    "C",
                ),
            ),
            panel(
                timeseries.Panel(),
                "Recent rollbacks and canary health",
                "Runs rolled back, orders to roll a canary back, and verdicts on canaries.",
                "short",
                (12, 9, 12, 9),
                query(increase("runs_ended_total", labels=',state="rolled_back"'), "rolled back", "A"),
                query(increase("directives_total", labels=',directive="rollback_canary",act="issued"'), "ordered", "B"),
                query(increase("canary_verdicts_total", " by (verdict)"), "canary {{verdict}}", "C"),
            ),
        ],
    )


def debug() -> d.Dashboard:
    """What a root cause is found with."""
    return dashboard(
        "debug",
        "qethics / debug",
        "Root causes of complex incidents, run by run.",
        [
            panel(
                with_run_page(table.Panel()),
                "Per-run trace views with provenance metadata",
                "Traces of runs, each with its steps; the provenance is in the attributes.",
                "short",
                (0, 0, 24, 9),
                traces("run", "tier", "backend", "fidelity", "complete"),
            ),
            panel(
                heatmap.Panel(),
                "Fidelity metric distribution over time",
                "How many results had which fidelity; an exemplar leads to the trace of its run.",
                "percentunit",
                (0, 9, 24, 9),
                query(increase("fidelity_ratio_bucket", " by (le)"), "{{le}}", "A", exemplar=True).format("heatmap"),
            ),
            panel(
                with_run_page(table.Panel()),
                "Raw decision outputs for sampled runs",
                "Decisions that runs influenced, with outcome, explanation score and whether they were acted on.",
                "short",
                (0, 18, 12, 9),
                traces("decision", "outcome", "explanation_score", "acted_on"),
            ),
            panel(
                with_run_page(table.Panel()),
                "Admission control evaluation logs",
                "What the gate was asked and answered, with the revision of the policy.",
                "short",
                (12, 18, 12, 9),
                traces("admission", "answer", "policy_revision", "rules"),
            ),
        ],
        runs=True,
    )


DASHBOARDS: Final = {"executive": executive, "oncall": oncall, "debug": debug}


def documents() -> dict[Path, str]:
    """Path -> content of every dashboard."""
    return {
        DIRECTORY / f"{name}.json": json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(make().build())), indent=1)
        + "\n"
        for name, make in DASHBOARDS.items()
    }


def main(arguments: Sequence[str]) -> int:
    """Write what is stale, or with `--check` only say so."""
    made = documents()
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text() != text]
    if "--check" not in arguments:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path])
    for path in stale:
        sys.stdout.write(f"{path}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
