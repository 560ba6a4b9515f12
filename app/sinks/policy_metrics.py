"""Prometheus metrics of the policy in force: which it is, whether it is the one it should be, and its exemptions."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.conventions import METRIC_PREFIX
from app.core.policy import Policy
from app.policy.watch import Watch


class PolicyCollector(Collector):
    """The policy of one process.

    Parameters
    ----------
    in_force
        Partition -> the policy it is judged by.
    watch
        What watches the source of the policy; None where the rules are those of a directory.
    """

    def __init__(self, in_force: Callable[[], Mapping[Any, Policy]], watch: Watch | None) -> None:
        self._in_force = in_force
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        policies = self._in_force()
        version = GaugeMetricFamily(
            METRIC_PREFIX + "policy_version",
            "version of the bundle in force; 0 of a directory, -1 of none",
            labels=["partition", "revision"],
        )
        expires = GaugeMetricFamily(
            METRIC_PREFIX + "policy_exemption_expires_timestamp_seconds",
            "until when an exemption in force holds",
            labels=["exemption", "rule", "owner"],
        )
        exemptions = {exemption.id: exemption for policy in policies.values() for exemption in policy.pack.exemptions}
        for partition, policy in policies.items():
            version.add_metric([str(partition), policy.revision], policy.pack.version)
        for each in (each for each in exemptions.values() if each.holds(time.time())):
            expires.add_metric([each.id, each.rule, each.owner], each.expires.timestamp())
        yield from (version, expires)
        if self._watch is not None:
            yield from self._watched(self._watch)

    @staticmethod
    def _watched(watch: Watch) -> Iterable[Metric]:
        drifted = GaugeMetricFamily(
            METRIC_PREFIX + "policy_drift_partitions", "partitions judged by another policy than the source has"
        )
        drifted.add_metric([], len(watch.drifted))
        is_refused = GaugeMetricFamily(
            METRIC_PREFIX + "policy_source_refused", "1 while what the source of the policy holds is refused"
        )
        is_refused.add_metric([], watch.source.refused is not None)
        refusals = CounterMetricFamily(
            METRIC_PREFIX + "policy_source_refusals", "bundles of the source that were refused"
        )
        refusals.add_metric([], watch.source.refusals)
        yield from (drifted, is_refused, refusals)
