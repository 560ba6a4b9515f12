"""The rules of grafana/dashboard-linter (docs/index.md there), which cannot be installed where this is tested.

Each takes a dashboard as JSON and says what is wrong as (panel title or "", text). Left out are the two of LogQL, as
there is no Loki here.
"""

import re

import promql_parser as promql
from promql_parser import AggregateExpr, BinaryExpr, Call, MatrixSelector, ParenExpr, SubqueryExpr, UnaryExpr

#: Units of Grafana's list that are used here.
UNITS = {"short", "percentunit", "currencyUSD", "s", "none", "ops", "bytes"}
_UNITED = {"stat", "singlestat", "graph", "table", "timeseries", "gauge"}
_RATE_INTERVAL = "4m7s"  # stands for $__rate_interval, and is written by nobody
_COUNTER = re.compile(r".*(_total|_sum|_count|_bucket)$")


def variables(board, kind):
    return [each for each in board["templating"]["list"] if each["type"] == kind]


def template_datasource_rule(board):
    for each in variables(board, "datasource"):
        names = {f"{each['query']}_datasource"} | ({"datasource"} if each["query"] == "prometheus" else set())
        labels = {f"{each['query'].capitalize()} data source"} | ({"Data source"} if "datasource" in names else set())
        if each["name"] not in names:
            yield "", f"the variable is named {each['name']}, not one of {names}"
        if each["label"] not in labels:
            yield "", f"the variable {each['name']} has the label {each['label']}, not one of {labels}"
    if not variables(board, "datasource"):
        yield "", "there is no variable for the data source"


def _template(board, name):
    (found,) = [each for each in board["templating"]["list"] if each["name"] == name] or [None]
    if found is None:
        yield "", f"there is no variable {name}"
        return
    wanted = {"type": "query", "label": name.capitalize(), "multi": True, "allValue": ".+", "includeAll": True}
    for field, value in wanted.items():
        if found.get(field) != value:
            yield "", f"{field} of the variable {name} is {found.get(field)!r}, not {value!r}"
    if found["datasource"]["uid"] != "${datasource}":
        yield "", f"the variable {name} does not go by the variable for the data source"


def template_job_rule(board):
    yield from _template(board, "job")


def template_instance_rule(board):
    yield from _template(board, "instance")


def template_label_promql_rule(board):
    for each in variables(board, "query"):
        found = re.fullmatch(r"label_values\((.*), \w+\)", each["query"])
        if found is None:
            yield "", f"the variable {each['name']} is no label_values"
        else:
            yield from _parses("", found[1])


def template_on_time_change_reload_rule(board):
    for each in variables(board, "query"):
        if each["refresh"] != 2:
            yield "", f"the variable {each['name']} is not read again when the time range changes"


def panel_datasource_rule(board):
    for panel in board["panels"]:
        if not re.fullmatch(r"\$\{(datasource|\w+_datasource)\}", (panel.get("datasource") or {}).get("uid", "")):
            yield panel["title"], "the panel does not go by the variable for the data source"


def panel_title_description_rule(board):
    for panel in board["panels"]:
        if not panel.get("title") or not panel.get("description"):
            yield panel.get("title", ""), "the panel has no title or no description"


def panel_units_rule(board):
    for panel in board["panels"]:
        if panel["type"] in _UNITED and panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
            yield panel["title"], f"{panel['fieldConfig']['defaults'].get('unit')!r} is no unit"


def panel_no_targets_rule(board):
    for panel in board["panels"]:
        if not panel.get("targets"):
            yield panel["title"], "the panel asks nothing"


def target_promql_rule(board):
    for panel, text in _targets(board):
        yield from _parses(panel, text)


def target_rate_interval_rule(board):
    for panel, text in _targets(board):
        for node in _nodes(promql.parse(_filled(text))):
            if isinstance(node, MatrixSelector) and node.range.total_seconds() != 247:
                yield panel, f"a range of {text} is not $__rate_interval"


def target_job_rule(board):
    yield from _matched(board, "job")


def target_instance_rule(board):
    yield from _matched(board, "instance")


def target_counter_agg_rule(board):
    for panel, text in _targets(board):
        ast = promql.parse(_filled(text))
        inside = {
            id(child)
            for node in _nodes(ast)
            if isinstance(node, Call) and node.func.name in {"rate", "irate", "increase"}
            for child in node.args
        }
        for node in _nodes(ast):
            if type(node).__name__ == "VectorSelector" and _COUNTER.match(node.name or "") and id(node) not in inside:
                yield panel, f"the counter {node.name} is not in a rate or increase"


def uneditable_dashboard_rule(board):
    if board.get("editable") is not False:
        yield "", "the dashboard can be edited where it is shown"


RULES = {
    name.replace("_", "-"): rule
    for name, rule in list(globals().items())
    if name.endswith("_rule") and not name.startswith("_")
}


def findings(board, exclusions):
    """(rule, panel, text) of everything that is wrong and not excluded."""
    for name, rule in RULES.items():
        excluded = exclusions.get(name, {}).get("entries", [])
        for panel, text in rule(board):
            if not any(each.get("dashboard") == board["title"] and each.get("panel") == panel for each in excluded):
                yield name, panel, text


def _targets(board):
    for panel in board["panels"]:
        for target in panel["targets"]:
            if "expr" in target:
                yield panel["title"], target["expr"]


def _filled(text):
    return text.replace("$__rate_interval", _RATE_INTERVAL).replace("$__range", "6h")


def _parses(panel, text):
    try:
        promql.parse(_filled(text))
    except ValueError as error:
        yield panel, f"{text}: {error}"


def _nodes(node):
    """Every node of an expression."""
    yield node
    if isinstance(node, AggregateExpr | ParenExpr | SubqueryExpr | UnaryExpr):
        yield from _nodes(node.expr)
    elif isinstance(node, BinaryExpr):
        yield from _nodes(node.lhs)
        yield from _nodes(node.rhs)
    elif isinstance(node, Call):
        for child in node.args:
            yield from _nodes(child)


def _matched(board, label):
    """Every selector is about the jobs or instances that were chosen."""
    for panel, text in _targets(board):
        for selector in re.findall(r"qethics_\w+(?:\{[^}]*\})?", text):
            if f'{label}=~"${label}"' not in selector:
                yield panel, f"{selector} has no {label}"
