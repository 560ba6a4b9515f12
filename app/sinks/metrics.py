"""Prometheus metrics, read from the state of the stages when somebody asks.

Counters are part of the state of their partition and carry its number as label: a partition that moves to another
worker takes its totals along, so nothing is reset and nothing counted twice. Sum over `partition`, and over `instance`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from app.conventions import METRIC_PREFIX
from app.core.catalog import RUNTIMES, TIERS, UNKNOWN, Catalog
from app.core.decode import Reason
from app.core.policy import Rule
from app.core.runs import RunStage
from app.core.sli import COUNTERS, SLIS, Counters, Key
from app.core.streams import SIGNALS, StreamStage
from app.sinks.topic import Publisher
from app.stream.ages import BOUNDS
from app.stream.shell import Shell

#: Every 12th bound is exported: factors of about 3.
_EXPORTED: Final = range(0, len(BOUNDS), 12)


def known_keys(catalog: Catalog, rules: Iterable[Rule]) -> dict[str, set[Key]]:
    """The counters that exist from the start, at 0: every known label value of what producers choose from."""
    tiers: set[Key] = {(tier,) for tier in (*TIERS, UNKNOWN)}
    return {
        "M1": tiers,
        "M3": tiers,
        "M5": {()},
        "M6": {(provider,) for provider in catalog.providers},
        "M10": {(signal,) for signal in catalog.watches},
        "applied": {("jobs",), ("results",)},
        "duplicate": {("jobs",), ("results",)},
        "late": {("jobs",), ("results",)},
        "rejected": {(reason.value,) for reason in Reason},
        "closed": {("complete",), ("incomplete",), ("abandoned",)},
        "violation": {(rule.name, rule.severity, rule.mode) for rule in rules},
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
        "late_spend": {()},
        "spend": {(center, runtime) for center in catalog.budgets for runtime in RUNTIMES},
        "observed": {(signal,) for signal in SIGNALS},
        "drift": {(signal,) for signal in catalog.watches},
        "canary": {("better",), ("worse",), ("equal",), ("differ",)},
        "drift_resolved": {(signal,) for signal in catalog.watches},
    }


#: Counters that are kept by the stream stage; all others are the run stage's.
_STREAM_COUNTERS: Final = frozenset(
    {"observed", "drift", "drift_resolved", "rebaselined", "refused", "lost", "recovered", "unwatched", "late_spend"}
    | {"M4", "M10", "canary"}
)


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
    """

    def __init__(
        self,
        shell: Shell,
        publisher: Publisher,
        lag: Callable[[], Mapping[tuple[str, int], int]],
        catalog: Catalog,
        build: Mapping[str, str],
    ) -> None:
        self._shell = shell
        self._publisher = publisher
        self._lag = lag
        self._catalog = catalog
        self._build = dict(build)

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        units = list(self._shell.units.values())
        stages = RunStage | StreamStage
        counted = [(str(unit.partition), unit.stage) for unit in units if isinstance(unit.stage, stages)]
        rules = [rule for _, stage in counted if isinstance(stage, RunStage) for rule in stage.policy.rules.values()]
        known = known_keys(self._catalog, rules)
        for sli in SLIS:
            if sli.no_source is None and sli.id != "M9":
                for side, text in (("valid", "counted"), ("bad", "not " + sli.text)):
                    name = f"{METRIC_PREFIX}{sli.name}_{side}"
                    yield self._counter(
                        name, f"{sli.id}: {text}", sli.labels, (side, sli.id), known.get(sli.id, set()), counted
                    )
        for row in COUNTERS:
            yield self._counter(
                METRIC_PREFIX + row.name, row.text, row.labels, (row.key,), known.get(row.key, set()), counted
            )
        yield from self._states(counted)
        yield from self._own()

    def _counter(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        prefix: Key,
        known: set[Key] | None,
        counted: list[tuple[str, RunStage | StreamStage]],
    ) -> Metric:
        family = CounterMetricFamily(name, text, labels=[*labels, "partition"])
        for partition, stage in counted:
            if isinstance(stage, StreamStage) != (prefix[-1] in _STREAM_COUNTERS):
                continue
            values = {key: 0 for key in known or ()} | selected(stage.counters, prefix)
            for key, value in sorted(values.items()):
                family.add_metric([*key, partition], value)
        return family

    def _states(self, counted: list[tuple[str, RunStage | StreamStage]]) -> Iterator[Metric]:
        open_runs = GaugeMetricFamily(METRIC_PREFIX + "open_runs", "runs that are not closed", labels=["partition"])
        clock = GaugeMetricFamily(
            METRIC_PREFIX + "heartbeat_age_seconds", "age of the last heartbeat that came through", labels=["partition"]
        )
        hours = CounterMetricFamily(
            METRIC_PREFIX + "spend_hours", "M9: hours with spending", labels=["cost_center", "runtime"]
        )
        within = GaugeMetricFamily(
            METRIC_PREFIX + "spend_hours_within_budget", "M9: hours within budget", labels=["cost_center", "runtime"]
        )
        fidelity = GaugeMetricFamily(
            METRIC_PREFIX + "fidelity_mean_ratio", "mean fidelity", labels=["workload", "backend"]
        )
        variance = GaugeMetricFamily(
            METRIC_PREFIX + "fidelity_variance_ratio",
            "M4: fidelity variance of the last window over the baseline's",
            labels=["workload", "backend"],
        )
        for partition, stage in counted:
            if isinstance(stage, RunStage):
                open_runs.add_metric([partition], len(stage.runs))
                if stage.now:
                    clock.add_metric([partition], max(0.0, time.time() - stage.now))
                continue
            for key, (total, good) in stage.budget_hours().items():
                hours.add_metric(key, total)
                within.add_metric(key, good)
            for stream in stage.streams.values():
                if stream.total.n:
                    fidelity.add_metric([stream.workload, stream.backend], stream.total.mean)
                if stream.ratio is not None:
                    variance.add_metric([stream.workload, stream.backend], stream.ratio.ratio)
        yield from (open_runs, clock, hours, within, fidelity, variance)

    def _own(self) -> Iterator[Metric]:
        shell, publisher = self._shell, self._publisher
        for name, text, values in (
            ("sink_records", "records a sink wrote", publisher.written),
            ("sink_failures", "records a sink could not write", publisher.failed),
        ):
            family = CounterMetricFamily(METRIC_PREFIX + name, text, labels=["sink"])
            for sink, value in values.items():
                family.add_metric([sink], value)
            yield family
        lag = GaugeMetricFamily(METRIC_PREFIX + "lag_records", "records that wait", labels=["topic", "partition"])
        for (topic, partition), records in self._lag().items():
            lag.add_metric([topic, str(partition)], records)
        yield lag
        for name, text, value in (
            ("records_deleted_unread", "records Kafka deleted before we read them", sum(shell.lost.values())),
            ("offsets_skipped", "offsets without a record: transaction markers, compaction", shell.skipped),
        ):
            family = CounterMetricFamily(METRIC_PREFIX + name, text)
            family.add_metric([], value)
            yield family
        age = GaugeMetricFamily(
            METRIC_PREFIX + "checkpoint_age_seconds", "time since the last checkpoint", labels=["stage", "partition"]
        )
        for unit in list(shell.units.values()):
            age.add_metric([unit.kind.name, str(unit.partition)], max(0.0, time.time() - unit.checkpointed_at))
        yield age
        yield self._freshness()
        yield InfoMetricFamily(METRIC_PREFIX + "build", "what is running", value=self._build)

    def _freshness(self) -> Metric:
        ages = self._shell.ages
        cumulative = ages.counts.cumsum()
        buckets = [(f"{BOUNDS[index]:.4g}", float(cumulative[index])) for index in _EXPORTED]
        buckets.append(("+Inf", float(cumulative[-1])))
        family = HistogramMetricFamily(
            METRIC_PREFIX + "event_to_metric_seconds", "time from a record's timestamp to its effect on the metrics"
        )
        family.add_metric([], buckets, sum_value=ages.sum_seconds)
        return family


def selected(counters: Counters, prefix: Key) -> dict[Key, int]:
    """The counters whose key begins with `prefix`, by the rest of the key."""
    size = len(prefix)
    return {key[size:]: value for key, value in counters.items() if key[:size] == prefix}
