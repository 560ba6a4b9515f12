"""Prometheus metrics of the policy in force: which it is, whether it is the one it should be, and its exemptions."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.conventions import METRIC_PREFIX
from app.core.runs import RunStage
from app.policy.watch import Watch
from app.stream.shell import Shell


class PolicyCollector(Collector):
    """The policy of one worker.

    Parameters
    ----------
    shell
        Whose partitions are looked at.
    watch
        What watches the source of the policy; None where the rules are those of a directory.
    """

    def __init__(self, shell: Shell, watch: Watch | None) -> None:
        self._shell = shell
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        units = [(str(unit.partition), unit.stage) for unit in list(self._shell.units.values())]
        policies = [(partition, stage.policy) for partition, stage in units if isinstance(stage, RunStage)]
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
        exemptions = {exemption.id: exemption for _, policy in policies for exemption in policy.pack.exemptions}
        for partition, policy in policies:
            version.add_metric([partition, policy.revision], policy.pack.version)
        for each in exemptions.values():
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
