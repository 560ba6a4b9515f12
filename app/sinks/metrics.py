"""Prometheus metrics, read from the state of the stages when somebody asks.

Counters are part of the state of their partition and carry its number as label: a partition that moves to another
worker takes its totals along, so nothing is reset and nothing counted twice. Sum over `partition`, and over `instance`.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from app.conventions import DIRECTIVE_KINDS, METRIC_PREFIX, bound_label
from app.core import ledger
from app.core.budget import HOUR_SECONDS
from app.core.catalog import OTHER, RUNTIMES, TIERS, UNKNOWN, Catalog
from app.core.decode import Reason
from app.core.identity import bucket
from app.core.policy import Rule
from app.core.reproducibility import ANSWERS
from app.core.runs import RunStage
from app.core.sli import COUNTERS, RUNS, SLIS, STREAMS, Counters, Key
from app.core.streams import HISTOGRAMS, REFUSED, SIGNALS, StreamStage
from app.sinks.topic import Publisher
from app.stream.ages import BOUNDS
from app.stream.shell import Shell
from app.tracing import Shown, Tracer

#: Every 12th bound is exported: factors of about 3.
_EXPORTED: Final = range(0, len(BOUNDS), 12)
#: OpenMetrics 1.0, section "Exemplars": of names and values together.
_EXEMPLAR_CHARACTERS: Final = 128


#: Reasons that are shown once they have occurred: each has a page or a counter of its own as well, and a metric has
#: less than a hundred series.
_RARE: Final = {
    Reason.CORRUPT_BATCH,
    Reason.DECOMPRESSION_BOMB,
    Reason.POISON,
    Reason.POLICY_REFUSED,
    Reason.RUN_FULL,
}


def known_keys(catalog: Catalog, rules: Iterable[Rule], centers: Iterable[str]) -> dict[str, set[Key]]:
    """The counters that exist from the start, at 0: every known label value of what producers choose from."""
    tiers: set[Key] = {(tier,) for tier in (*TIERS, UNKNOWN)}
    return {
        "M1": tiers,
        "M3": tiers,
        "M4": {(OTHER, OTHER)},
        "M5": {()},
        "M6": {(provider,) for provider in (*catalog.providers, OTHER, UNKNOWN)},
        "M10": {(signal,) for signal in catalog.watches},
        "applied": {("jobs",), ("results",)},
        "duplicate": {("jobs",), ("results",)},
        "late": {("jobs",), ("results",)},
        "rejected": {(reason.value,) for reason in Reason if reason not in _RARE},
        "closed": {("complete",), ("incomplete",), ("abandoned",)},
        "M2": {(workload,) for workload in (*catalog.workloads, OTHER)},
        "replay": {(answer,) for answer in ANSWERS},
        "ended": {(state,) for state in ledger.TERMINAL},
        "directive": {(name, act) for name in DIRECTIVE_KINDS for act in ("issued", "lifted")},
        "recalibrated": {(backend,) for backend in catalog.backends},
        "violation": {(rule.name, rule.severity) for rule in rules},
        "answer": {("allow",), ("deny",), ("fallback_classical",)},
        "policy": {("activated",), ("refused",)},
        "illegal": {()},
        "fallback": {()},
        "review": {()},
        "no_ideal": {()},
        "calibrated": {("fresh",), ("stale",), ("unknown",)},
        "lost": {()},
        "recovered": {()},
        "unwatched": {()},
        "implausible": {()},
        "late_spend": {()},
        "spend": {(center, runtime) for center in centers for runtime in RUNTIMES},
        "observed": {(signal,) for signal in SIGNALS},
        "drift": {(signal,) for signal in catalog.watches},
        "canary": {("better",), ("worse",), ("equal",), ("differ",)},
        "drift_resolved": {(signal,) for signal in catalog.watches},
    }


Counted = list[tuple[int, RunStage | StreamStage]]


class StageCollector(Collector):
    """The metrics of one worker.

    Parameters
    ----------
    shell
        Whose units are read.
    publisher
        Whose sinks are read.
    lag
        Records of each (topic, partition) that wait.
    catalog
        What the labels may be.
    build
        Name -> value of what identifies this build.
    tracer
        Whose traced runs stand for figures, as exemplars.
    """

    def __init__(
        self,
        shell: Shell,
        publisher: Publisher,
        lag: Callable[[], Mapping[tuple[str, int], int]],
        catalog: Catalog,
        build: Mapping[str, str],
        tracer: Tracer | None = None,
    ) -> None:
        self._shell = shell
        self._publisher = publisher
        self._lag = lag
        self._catalog = catalog
        self._build = dict(build)
        self._tracer = tracer

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        units = list(self._shell.units.values())
        stages = RunStage | StreamStage
        # A counter that continues from a checkpoint is behind what was shown before, and a counter that falls is taken
        # for one that began anew. So what was in the log is taken in before the partition is shown.
        shown = [unit for unit in units if isinstance(unit.stage, stages) and unit.has_caught_up]
        counted = [(unit.partition, unit.stage) for unit in shown if isinstance(unit.stage, stages)]
        policies = [stage.policy for _, stage in counted if isinstance(stage, RunStage)]
        rules = [rule for policy in policies for rule in policy.rules.values()]
        budgets = {center: usd for policy in policies for center, usd in policy.standards.budgets.items()}
        known = known_keys(self._catalog, rules, budgets)
        for sli in SLIS:
            if sli.no_source is None and sli.id != "M9":
                for side, text in (("valid", "counted"), ("bad", "not " + sli.text)):
                    name = f"{METRIC_PREFIX}{sli.name}_{side}"
                    prefix, values = (side, sli.id), known.get(sli.id, set())
                    yield self._counter(name, f"{sli.id}: {text}", sli.labels, sli.stages, prefix, values, counted)
        for row in COUNTERS:
            name, values = METRIC_PREFIX + row.name, known.get(row.key, set())
            yield self._counter(name, row.text, row.labels, row.stages, (row.key,), values, counted)
        yield from self._accepted(counted)
        yield self._heartbeats()
        yield from self._states(counted)
        yield from self._spending([stage for _, stage in counted if isinstance(stage, StreamStage)], budgets)
        yield from self._histograms([(number, stage) for number, stage in counted if isinstance(stage, StreamStage)])
        yield from self._own()
        behind = GaugeMetricFamily(
            METRIC_PREFIX + "catching_up_units",
            "stages of partitions that have not taken in what was in the log before",
        )
        behind.add_metric([], len(units) - len(shown))
        promised = GaugeMetricFamily(
            METRIC_PREFIX + "drift_promised_false_alerts", "false drift alerts a week that were accepted"
        )
        promised.add_metric([], self._catalog.promise.false_alerts_per_week)
        yield from (behind, promised)

    def _counter(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        stages: tuple[str, ...],
        prefix: Key,
        known: set[Key],
        counted: Counted,
    ) -> Metric:
        more = ("stage", "partition") if len(stages) > 1 else ("partition",)
        family = CounterMetricFamily(name, text, labels=[*labels, *more])
        for partition, stage in counted:
            of = STREAMS if isinstance(stage, StreamStage) else RUNS
            if of not in stages:
                continue
            place = (of, str(partition))[-len(more) :]
            values = _at_zero(prefix, known, stage, partition) | selected(stage.counters, prefix)
            for key, value in sorted(values.items()):
                if prefix == ("violation",) and (shown := self._violation(key)) is not None:
                    named = dict(zip(family._labelnames, [*key, *place], strict=True))
                    family.add_sample(f"{name}_total", named, value, exemplar=_exemplar(shown))
                else:
                    family.add_metric([*key, *place], value)
        return family

    @staticmethod
    def _accepted(counted: Counted) -> Iterator[Metric]:
        """Events that came, and those refused; where all are refused there is still what they are a share of."""
        of = ["partition"]
        came = CounterMetricFamily(
            METRIC_PREFIX + "event_acceptance_valid", "events that came, repeats left out", labels=of
        )
        bad = CounterMetricFamily(METRIC_PREFIX + "event_acceptance_bad", "events sent to dead-letter", labels=of)
        for partition, stage in counted:
            if isinstance(stage, RunStage):
                applied, refused = (sum(selected(stage.counters, (key,)).values()) for key in ("applied", "rejected"))
                came.add_metric([str(partition)], applied + refused)
                bad.add_metric([str(partition)], refused)
        yield from (came, bad)

    def _violation(self, key: Key) -> Shown | None:
        """The last traced run that broke a rule, of those that this worker traced."""
        if self._tracer is None:
            return None
        rule, severity = key
        return self._tracer.violations.get((rule, severity))

    def _states(self, counted: Counted) -> Iterator[Metric]:
        open_runs = GaugeMetricFamily(
            METRIC_PREFIX + "open_runs", "runs that are not closed, by how far they are", labels=["state", "partition"]
        )
        fidelity = GaugeMetricFamily(
            METRIC_PREFIX + "fidelity_mean_ratio", "mean fidelity", labels=["workload", "backend"]
        )
        variance = GaugeMetricFamily(
            METRIC_PREFIX + "fidelity_variance_ratio",
            "M4: fidelity variance of the last window over the baseline's",
            labels=["workload", "backend"],
        )
        waiting = GaugeMetricFamily(
            METRIC_PREFIX + "replays_waiting", "chosen runs without their replay", labels=["partition"]
        )
        for partition, stage in counted:
            if isinstance(stage, RunStage):
                for state, count in stage.open_by_state().items():
                    open_runs.add_metric([state, str(partition)], count)
                continue
            waiting.add_metric([str(partition)], stage.replays_waiting)
        streams = [each for _, stage in counted if isinstance(stage, StreamStage) for each in stage.streams.values()]
        # As with cost centers: one series, whatever stands in a partition that is not its own.
        for (workload, backend), stream in {(each.workload, each.backend): each for each in streams}.items():
            if stream.total.n:
                fidelity.add_metric([workload, backend], stream.total.mean)
            if stream.ratio is not None:
                variance.add_metric([workload, backend], stream.ratio.ratio)
        yield from (open_runs, fidelity, variance, waiting)

    def _heartbeats(self) -> Metric:
        """How far behind each partition's clock is.

        While a partition catches up, its clock is where its log is, and that says nothing of what comes through now;
        so it is the time since it last took anything in. A partition that gets nothing at all is never silent here.
        """
        family = GaugeMetricFamily(
            METRIC_PREFIX + "heartbeat_age_seconds", "age of the last heartbeat that came through", labels=["partition"]
        )
        now = time.time()
        for unit in list(self._shell.units.values()):
            if isinstance(unit.stage, RunStage):
                heard_at = unit.stage.heard_at if unit.has_caught_up else unit.applied_at
                family.add_metric([str(unit.partition)], max(0.0, now - heard_at))
        return family

    @staticmethod
    def _budget_hours(stages: list[StreamStage]) -> Iterator[Metric]:
        """Hours with spending; one series, also of a cost center that stands in a partition that is not its own."""
        of_hours, hours, over = ["cost_center", "runtime"], Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for stage in stages:
            for key, (total, good) in stage.budget_hours().items():
                hours[key] += total
                over[key] += total - good
        for totals, name, text in (
            (hours, "spend_within_budget_valid", "M9: hours with spending; corrections may change them"),
            (over, "spend_within_budget_bad", "M9: hours over the budget; corrections may change them"),
        ):
            family = GaugeMetricFamily(METRIC_PREFIX + name, text, labels=of_hours)
            for key, value in totals.items():
                family.add_metric(key, value)
            yield family

    def _spending(self, stages: list[StreamStage], budgets: Mapping[str, float]) -> Iterator[Metric]:
        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(METRIC_PREFIX + name, text, labels=["cost_center"])

        yield from self._budget_hours(stages)
        rate = gauge("spend_dollars_per_hour", "what is spent at, by the last minute that was billed")
        usual = gauge("spend_baseline_dollars_per_hour", "what was spent at in the hour before, without what paged")
        budget = gauge("spend_budget_dollars_per_hour", "the budget of an hour")
        spent = gauge("spend_hour_dollars", "what is spent of the hour that it is now")
        ends = gauge("spend_budget_end_timestamp_seconds", "when the hour's budget will be spent at this rate")
        lag = gauge("billing_lag_seconds", "how long after their time charges come, on average")
        # A cost center lives in one partition; what stands in another one all the same makes no second series.
        for center, stage in {center: each for each in stages for center in each.burn.centers}.items():
            limit, spend = stage.budgets.get(center, 0.0), self._catalog.alerting.spend
            found = stage.burn.rate(center, spend, limit)
            is_silent = stage.burn.is_silent(center, stage.now, spend)
            rate.add_metric([center], 0.0 if is_silent else found.usd_per_hour)
            if found.baseline_usd_per_hour is not None:
                usual.add_metric([center], found.baseline_usd_per_hour)
            spent.add_metric([center], stage.spent_usd(center, int(stage.now // HOUR_SECONDS)))
            at = stage.budget_ends_at(center)
            if at is not None:
                ends.add_metric([center], at)
            lag.add_metric([center], stage.burn.centers[center].lag_seconds)
        for center, limit in budgets.items():
            budget.add_metric([center], limit)
        yield from (rate, usual, budget, spent, ends, lag)

    def _histograms(self, stages: list[tuple[int, StreamStage]]) -> Iterator[Metric]:
        for signal, (name, text, bounds) in HISTOGRAMS.items():
            family = HistogramMetricFamily(METRIC_PREFIX + name, text, labels=["partition"])
            limits = [*map(bound_label, bounds), "+Inf"]
            shown = self._fidelities(bounds) if signal == "fidelity" else {}
            for partition, stage in stages:
                counts = (stage.counters["bucket", signal, str(place)] for place in range(len(limits)))
                buckets: list[Any] = [
                    (limit, float(count), shown.pop(place, None))
                    for place, (limit, count) in enumerate(zip(limits, accumulate(counts), strict=True))
                ]
                family.add_metric([str(partition)], buckets, sum_value=stage.sums.get(signal, 0.0))
            yield family

    def _fidelities(self, bounds: tuple[float, ...]) -> dict[int, Exemplar]:
        """Bucket -> a traced run whose fidelity is in it.

        Runs and their streams live in different partitions; the first that is shown has the exemplar, and whoever sums
        over partitions, as one must, sees it.
        """
        traced = self._tracer.fidelities if self._tracer is not None else []
        return {bisect_left(bounds, shown.value): _exemplar(shown) for shown in reversed(traced)}

    def _own(self) -> Iterator[Metric]:
        shell, publisher = self._shell, self._publisher
        written = CounterMetricFamily(METRIC_PREFIX + "sink_records", "records a sink wrote", labels=["sink"])
        for sink, value in publisher.written.items():
            written.add_metric([sink], value)
        yield written
        lag = GaugeMetricFamily(METRIC_PREFIX + "lag_records", "records that wait", labels=["topic", "partition"])
        for (topic, partition), records in self._lag().items():
            lag.add_metric([topic, str(partition)], records)
        yield lag
        yield from self._tracing()
        age = GaugeMetricFamily(
            METRIC_PREFIX + "checkpoint_age_seconds", "time since the last checkpoint", labels=["stage", "partition"]
        )
        for unit in list(shell.units.values()):
            age.add_metric([unit.kind.name, str(unit.partition)], max(0.0, time.time() - unit.checkpointed_at))
        yield age
        yield self._freshness()
        yield InfoMetricFamily(METRIC_PREFIX + "build", "what is running", value=self._build)

    def _tracing(self) -> Iterator[Metric]:
        counts = self._tracer.counts if self._tracer is not None else {}
        family = CounterMetricFamily(METRIC_PREFIX + "trace_spans", "spans by what became of them", labels=["outcome"])
        for outcome in ("offered", "exported", "failed"):
            family.add_metric([outcome], counts.get(outcome, 0))
        yield family
        left = CounterMetricFamily(METRIC_PREFIX + "trace_runs_left_out", "runs to trace, beyond what a second takes")
        left.add_metric([], self._tracer.left_out if self._tracer is not None else 0)
        yield left

    def _freshness(self) -> Metric:
        ages = self._shell.ages
        cumulative = ages.counts.cumsum()
        buckets = [(bound_label(float(f"{BOUNDS[index]:.4g}")), float(cumulative[index])) for index in _EXPORTED]
        buckets.append(("+Inf", float(cumulative[-1])))
        family = HistogramMetricFamily(
            METRIC_PREFIX + "event_to_metric_seconds", "time from a record's timestamp to its effect on the metrics"
        )
        family.add_metric([], buckets, sum_value=ages.sum_seconds)
        return family


def _at_zero(prefix: Key, known: set[Key], stage: RunStage | StreamStage, partition: int) -> dict[Key, int]:
    """The counters that a partition shows before anything is counted there.

    A broken rule is counted in one partition, where its alert is, so it is at zero in that one alone.
    """
    if isinstance(stage, StreamStage):
        if prefix == ("violation",):
            known = {key for key in known if bucket(key[0], stage.partitions) == partition}
        if prefix == ("rejected",):
            known = {(reason.value,) for reason in REFUSED}
    return dict.fromkeys(known, 0)


def _exemplar(shown: Shown) -> Exemplar:
    """A traced run as OpenMetrics has it: at most 128 characters of labels."""
    labels = {"trace_id": shown.trace_id}
    if sum(map(len, ("trace_id", shown.trace_id, "run_id", shown.run_id))) <= _EXEMPLAR_CHARACTERS:
        labels["run_id"] = shown.run_id
    return Exemplar(labels, shown.value, shown.at)


def selected(counters: Counters, prefix: Key) -> dict[Key, int]:
    """The counters whose key begins with `prefix`, by the rest of the key."""
    size = len(prefix)
    return {key[size:]: value for key, value in counters.items() if key[:size] == prefix}
