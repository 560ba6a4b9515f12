"""Prometheus rules of objectives: what they record, and when they fire.

Recorded, one series an objective: `qethics:slo_error:ratio_rate<window>`, `qethics:slo_events:increase<window>`,
`qethics:slo_objective:ratio` and `qethics:slo_budget_remaining:ratio`.
"""

from typing import Any, Final

from app.rules.files import Slos
from app.rules.slo import Burn, Severity, Slo

#: How often what is fast and what is slow is evaluated.
FAST: Final = "10s"
SLOW: Final = "1m"
BUDGET: Final = "5m"
NO_DATA_ALERT: Final = "SloNoData"
_NO_DATA_FOR: Final = "5m"
_STRICT_WINDOW: Final = "5m"
_STRICT_TEXT: Final = f"It allows no bad event at all, and there were some in the last {_STRICT_WINDOW}."
_DASHBOARD: Final = "/d/qethics-oncall"

Rule = dict[str, Any]


def rules(each: Slo, slos: Slos) -> dict[str, Any]:
    """The rule file of an objective, as Prometheus reads it."""
    fast = [*_recorded(each, "page"), *_alerts(each, "page", slos)]
    slow = [*_recorded(each, "ticket"), *_alerts(each, "ticket", slos), _no_data(each, slos)]
    groups = [_group(f"slo-{each.name}-fast", FAST, fast)] if fast else []
    groups.append(_group(f"slo-{each.name}-slow", SLOW, slow))
    groups.append(_group(f"slo-{each.name}-budget", BUDGET, _budget(each)))
    return {"groups": groups}


def _group(name: str, interval: str, found: list[Rule]) -> dict[str, Any]:
    return {"name": name, "interval": interval, "rules": found}


def _recorded(each: Slo, severity: Severity) -> list[Rule]:
    burns = each.of_severity(severity)
    windows = {window: None for burn in burns for window in (burn.short, burn.long)}
    if severity == "ticket":  # what is recorded for pages already is recorded often enough
        windows = {name: None for name in windows if all(name not in burn[:2] for burn in each.of_severity("page"))}
    found = [_record(f"qethics:slo_error:ratio_rate{window}", _ratio(each, window), each) for window in windows]
    for burn in burns:
        events = f"sum(increase({each.objective.valid}[{burn.long}]))"
        found.append(_record(f"qethics:slo_events:increase{burn.long}", events, each))
    return found


def _record(name: str, expression: str, each: Slo) -> Rule:
    return {"record": name, "expr": expression, "labels": {"slo": each.name}}


def _ratio(each: Slo, window: str) -> str:
    """The share of bad events in a window."""
    objective = each.objective
    valid = f"sum(rate({objective.valid}[{window}]))"
    if objective.bad is not None:
        return f"sum(rate({objective.bad}[{window}])) / {valid}"
    return f"1 - sum(rate({objective.good}[{window}])) / {valid}"


def _alerts(each: Slo, severity: Severity, slos: Slos) -> list[Rule]:
    if each.strict:
        return [_strict(each, slos)] if severity == "page" else []
    burns = each.of_severity(severity)
    if not burns:
        return []
    clauses = [_clause(each, burn) for burn in burns]
    said = "; or ".join(f"{burn.threshold:.4g} of {burn.long} and of {burn.short}" for burn in burns)
    return [
        {
            "alert": each.alert,
            "expr": "\nor\n".join(f"(\n{clause}\n)" for clause in clauses),
            "labels": {"severity": severity, "slo": each.name, "owner": each.objective.owner},
            "annotations": notes(
                slos,
                each.alert,
                each.objective.summary,
                f"The error budget ({each.objective.objective:g} over {each.objective.period}) burns too fast: "
                f"the share of bad events is above {said}.",
            ),
        }
    ]


def _clause(each: Slo, burn: Burn) -> str:
    of = f'{{slo="{each.name}"}}'
    return (
        f"  qethics:slo_error:ratio_rate{burn.long}{of} > {burn.threshold:.6g}\n"
        f"and\n"
        f"  qethics:slo_error:ratio_rate{burn.short}{of} > {burn.threshold:.6g}\n"
        f"and\n"
        f"  qethics:slo_events:increase{burn.long}{of} >= {each.objective.least_events}"
    )


def _strict(each: Slo, slos: Slos) -> Rule:
    """Where nothing is allowed, one bad event pages."""
    objective = each.objective
    bad = f"sum(increase({objective.bad}[{_STRICT_WINDOW}]))"
    if objective.bad is None:
        bad = f"sum(increase({objective.valid}[{_STRICT_WINDOW}])) - sum(increase({objective.good}[{_STRICT_WINDOW}]))"
    return {
        "alert": each.alert,
        "expr": f"{bad} > 0",
        "labels": {"severity": "page", "slo": each.name, "owner": objective.owner},
        "annotations": notes(slos, each.alert, objective.summary, _STRICT_TEXT),
    }


def _budget(each: Slo) -> list[Rule]:
    period, objective = each.objective.period, each.objective.objective
    of = f'{{slo="{each.name}"}}'
    found = [
        _record("qethics:slo_objective:ratio", f"vector({objective:g})", each),
        _record("qethics:slo_error:ratio_rateperiod", _ratio(each, period), each),
    ]
    if not each.strict:
        left = f"1 - qethics:slo_error:ratio_rateperiod{of} / {1 - objective:.6g}"
        found.append(_record("qethics:slo_budget_remaining:ratio", left, each))
    return found


def _no_data(each: Slo, slos: Slos) -> Rule:
    valid, silence = each.objective.valid, each.objective.silence
    other = each.objective.good or each.objective.bad
    expression = f"absent(sum({valid}))\nor\nabsent(sum({other}))"
    if silence is not None:
        expression += f"\nor\nsum(increase({valid}[{silence}])) == 0"
    return {
        "alert": NO_DATA_ALERT,
        "expr": expression,
        "for": _NO_DATA_FOR,
        "labels": {"severity": "ticket", "slo": each.name, "owner": each.objective.owner},
        "annotations": notes(
            slos,
            NO_DATA_ALERT,
            "An objective has no data, and no data is not good.",
            f"{each.name}: there is no {valid}, or no {other}"
            + (f", or none of it was counted in {silence}." if silence else "."),
        ),
    }


def notes(slos: Slos, alert: str, summary: str, description: str) -> dict[str, str]:
    """The annotations of an alert."""
    return {
        "summary": summary,
        "description": description,
        "runbook_url": f"{slos.runbooks}/{alert}",
        "dashboard_url": _DASHBOARD,
    }
