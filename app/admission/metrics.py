"""Prometheus metrics of the gate."""

from collections import Counter
from collections.abc import Iterable
from math import isfinite

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.admission.gatekeeper import BOUNDS, Gatekeeper
from app.conventions import (
    DISABLE_ROUTING,
    FALLBACK_CLASSICAL,
    FREEZE_OFFLOAD,
    METRIC_PREFIX,
    ROLLBACK_CANARY,
    bound_label,
)
from app.directives import Directives

_ANSWERS = (("allow", ""), ("deny", ""), ("fallback_classical", ""), ("deny", "late"), ("deny", "not_recorded"))


class AdmissionCollector(Collector):
    """The metrics of one gate.

    Parameters
    ----------
    gatekeeper, directives
        What is read.
    """

    def __init__(self, gatekeeper: Gatekeeper, directives: Directives) -> None:
        self._gatekeeper = gatekeeper
        self._directives = directives

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        gatekeeper = self._gatekeeper
        answers = CounterMetricFamily(
            METRIC_PREFIX + "admission_answers", "admission requests answered", labels=["answer", "failure"]
        )
        for key in _ANSWERS:
            answers.add_metric(key, gatekeeper.answers[key])
        refused = CounterMetricFamily(
            METRIC_PREFIX + "admission_refused", "admission requests not answered", labels=["reason"]
        )
        for reason in ("busy", "not_ready"):
            refused.add_metric([reason], gatekeeper.refused[reason])
        seconds = HistogramMetricFamily(METRIC_PREFIX + "admission_seconds", "time from a request to its answer")
        total, buckets = 0, []
        for bound in (*BOUNDS, float("inf")):
            total += gatekeeper.within[bound]
            buckets.append((bound_label(bound), float(total)))
        seconds.add_metric([], buckets, sum_value=gatekeeper.seconds)
        pending = GaugeMetricFamily(METRIC_PREFIX + "admission_pending", "admission requests being answered")
        pending.add_metric([], gatekeeper.pending)
        active = Counter(each.directive for each in self._directives.active())
        orders = GaugeMetricFamily(METRIC_PREFIX + "directives_active", "directives in force", labels=["directive"])
        for directive in (DISABLE_ROUTING, FALLBACK_CLASSICAL, ROLLBACK_CANARY, FREEZE_OFFLOAD):
            orders.add_metric([directive], active[directive])
        unreadable = CounterMetricFamily(METRIC_PREFIX + "directives_unreadable", "directives that could not be read")
        unreadable.add_metric([], self._directives.unreadable)
        age = GaugeMetricFamily(METRIC_PREFIX + "directives_age_seconds", "how old what is known of the directives is")
        if isfinite(self._directives.age_seconds):
            age.add_metric([], self._directives.age_seconds)
        yield from (answers, refused, seconds, pending, orders, unreadable, age)
