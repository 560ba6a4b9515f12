"""Tests of the rules of objectives for `promtool test rules`: of every alert that it fires, is quiet, and resolves.

The series are worked out from the objectives, the expectations from the workbook's arithmetic, and Prometheus itself
says what fires.
"""

from math import ceil
from typing import Any, Final, NamedTuple

from app.rules import prometheus
from app.rules.slo import SEVERITIES, Burn, Severity, Slo, seconds

#: Events in one interval of the series, so many that shares of them are exact enough.
_EVENTS: Final = 1_000_000
_EVALUATIONS: Final = 2


class Series(NamedTuple):
    """Valid and bad events of each interval: stretches of (intervals, valid, bad)."""

    stretches: tuple[tuple[int, int, int], ...]

    def of(self, each: Slo, interval: str) -> list[dict[str, str]]:
        """The input series of an objective."""
        other, is_good = (each.objective.good, True) if each.objective.bad is None else (each.objective.bad, False)
        counts = [(n, valid, valid - bad if is_good else bad) for n, valid, bad in self.stretches]
        valid_name, other_name = each.objective.valid, str(other)
        if other_name.startswith(valid_name) and is_good and "{" in other_name:
            # The good ones are a part of the valid ones: the rest of them is a series of its own.
            rest = [(n, valid - good) for n, valid, good in counts]
            label = other_name[len(valid_name) + 1 :].split("=", 1)[0]
            return [
                {"series": other_name, "values": _values([(n, good) for n, _, good in counts])},
                {"series": f'{valid_name}{{{label}="another"}}', "values": _values(rest)},
            ]
        return [
            {"series": valid_name, "values": _values([(n, valid) for n, valid, _ in counts])},
            {"series": other_name, "values": _values([(n, second) for n, _, second in counts])},
        ]


def _values(stretches: list[tuple[int, int]]) -> str:
    """A counter in promtool's notation."""
    total, found = 0, []
    for intervals, step in stretches:
        found.append(f"{total}+{step}x{intervals - 1}")
        total += step * intervals
    return " ".join(found)


def fast(each: Slo, rule_file: str) -> dict[str, Any]:
    """The tests that need evaluations as often as in earnest: pages of the shortest window, and silence."""
    return _file(rule_file, prometheus.FAST, [*_total_outage(each), *_silence(each)])


def slow(each: Slo, rule_file: str) -> dict[str, Any]:
    """The tests of longer windows, with an evaluation every five minutes; None need them of a strict objective."""
    tests = []
    for severity in SEVERITIES:
        tests += [*_steady(each, severity), *_low_traffic(each, severity)]
    return _file(rule_file, prometheus.BUDGET, tests)


def _file(rule_file: str, interval: str, tests: list[dict[str, Any]]) -> dict[str, Any]:
    return {"rule_files": [rule_file], "evaluation_interval": interval, "tests": tests}


def _total_outage(each: Slo) -> list[dict[str, Any]]:
    """Six hours of good events, then nothing but bad ones, then good ones again.

    After so long the windows of six hours do not fire for as little as those of one hour do.
    """
    first = next((burn for burn in each.of_severity("page") if burn.long == "1h"), None)
    if first is None and not each.strict:
        return []
    step = seconds(prometheus.FAST)
    within = ceil(first.threshold * 3_600) if first is not None else 0
    outage = (within // 600 + 1) * 600
    before = seconds("6h")
    series = Series(((before // step + 1, _EVENTS, 0), (outage // step, _EVENTS, _EVENTS), (3_600 // step, _EVENTS, 0)))
    # The first bad event is in the sample after the last good one.
    checks = [(before + max(0, within // step - 1) * step, False), (before + within + _EVALUATIONS * step, True)]
    checks.append((before + outage + 2_100, False))
    name = f"{each.name}: total failure pages within {within} s and {_EVALUATIONS} evaluations, and resolves"
    return [_test(name, prometheus.FAST, series.of(each, prometheus.FAST), (each.alert, each, "page"), checks)]


def _steady(each: Slo, severity: Severity) -> list[dict[str, Any]]:
    """A steady share of bad events: for every pair of windows a fifth above its threshold, and below the least one."""
    burns = each.of_severity(severity)
    found = []
    for burn in burns:
        share = min(1.2 * burn.threshold, 1.0)
        # A window of five minutes holds two samples only if they are more often; that pair has a test of its own.
        if seconds(burn.short) >= 2 * seconds(prometheus.BUDGET):
            name = f"{each.name}: a share of {share:.4g} bad events is a {severity} in {burn.long}, and resolves"
            found.append(_share(each, name, share, burn, fires=True))
    if burns:
        least = min(burns, key=lambda burn: burn.threshold)
        share = 0.8 * least.threshold
        name = f"{each.name}: a share of {share:.4g} bad events is no {severity}"
        found.append(_share(each, name, share, least, fires=False))
    return found


def _share(each: Slo, name: str, share: float, burn: Burn, *, fires: bool) -> dict[str, Any]:
    step, long = seconds(prometheus.BUDGET), seconds(burn.long)
    # Every short window of the severity must have nothing bad left in it.
    clean = max(seconds(other.short) for other in each.of_severity(burn.severity)) // step + 2
    series = Series(((long // step + 2, _EVENTS, int(share * _EVENTS)), (clean + 1, _EVENTS, 0)))
    checks = [(long + step, fires), (long + step + clean * step, False)] if fires else [(long + step, False)]
    return _test(name, prometheus.BUDGET, series.of(each, prometheus.BUDGET), (each.alert, each, burn.severity), checks)


def _low_traffic(each: Slo, severity: Severity) -> list[dict[str, Any]]:
    """Nothing but bad events, but fewer of them than say anything."""
    burns = each.of_severity(severity)
    if not burns:
        return []
    step, longest = seconds(prometheus.BUDGET), max(seconds(burn.long) for burn in burns)
    intervals = longest // step
    every = ceil(intervals / max(each.objective.least_events - 1, 1)) + 1
    stretches = tuple((1, int(place % every == 1), int(place % every == 1)) for place in range(intervals + 1))
    name = f"{each.name}: fewer than {each.objective.least_events} events are no {severity}"
    checks = [(longest, False)]
    series = Series(stretches).of(each, prometheus.BUDGET)
    return [_test(name, prometheus.BUDGET, series, (each.alert, each, severity), checks)]


def _silence(each: Slo) -> list[dict[str, Any]]:
    """Data, then silence, then data again; and no series at all."""
    step = seconds(prometheus.FAST)
    firing: tuple[str, Slo, Severity] = (prometheus.NO_DATA_ALERT, each, "ticket")
    none = _test(f"{each.name}: without a series there is no data", prometheus.FAST, [], firing, [(600, True)])
    if each.objective.silence is None:
        gone = Series(((60, _EVENTS, 0),)).of(each, prometheus.FAST)
        for one in gone:
            one["values"] += f" stale _x60 {one['values']}"
        checks = [(590, False), (1_200, True), (1_500, False)]
        name = f"{each.name}: a series that ends is no data, and one that begins again is"
        return [none, _test(name, prometheus.FAST, gone, firing, checks)]
    silence = seconds(each.objective.silence)
    series = Series(((360, _EVENTS, 0), ((silence + 900) // step, 0, 0), (60, _EVENTS, 0)))
    quiet = 360 * step + silence
    checks = [(3_600, False), (quiet + 400, True), (quiet + 900 + 300, False)]
    name = f"{each.name}: silence is no data, and ends with the next event"
    return [none, _test(name, prometheus.FAST, series.of(each, prometheus.FAST), firing, checks)]


def _test(
    name: str,
    interval: str,
    series: list[dict[str, str]],
    alert: tuple[str, Slo, Severity],
    checks: list[tuple[int, bool]],
) -> dict[str, Any]:
    """A test of one alert: when (seconds) it fires, and when it does not."""
    alertname, each, severity = alert
    of = f'alertname="{alertname}", slo="{each.name}", severity="{severity}", alertstate="firing"'
    expected = [
        {
            "expr": f"count(ALERTS{{{of}}})",
            "eval_time": f"{at}s",
            "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
        }
        for at, fires in checks
    ]
    return {"name": name, "interval": interval, "input_series": series, "promql_expr_test": expected}
