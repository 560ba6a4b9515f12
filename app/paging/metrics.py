"""Prometheus metrics of the pager: what it reaches, what fires, and how long incidents take (M8)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from app.conventions import METRIC_PREFIX
from app.core.incidents import GOOD_SECONDS, SEVERITIES, Figures, phases
from app.core.paging import Book
from app.core.sli import SLIS
from app.paging.alertmanager import Alertmanager
from app.paging.desk import Desk

_STATES: Final = ("detected", "acknowledged", "mitigated")


class PagerCollector(Collector):
    """The metrics of one pager.

    Parameters
    ----------
    book, clients, desk, unreadable
        What is read.
    build
        What identifies this build.
    read_at
        Everything was read that was there at this time; 0 before all was read that was there at the start.
    """

    def __init__(
        self,
        book: Book,
        clients: Callable[[], Sequence[Alertmanager]],
        desk: Desk,
        unreadable: Callable[[], int],
        read_at: Callable[[], float],
        build: Mapping[str, str],
    ) -> None:
        self._book = book
        self._clients = clients
        self._desk = desk
        self._unreadable = unreadable
        self._read_at = read_at
        self._build = dict(build)

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        yield InfoMetricFamily(METRIC_PREFIX + "build", "what is running", value=self._build)
        yield from self._pushing()
        if self._read_at():  # a counter that is still being read would be taken for one that rises
            yield from self._incidents()

    def _pushing(self) -> Iterator[Metric]:
        pushed = GaugeMetricFamily(
            METRIC_PREFIX + "pager_last_push_timestamp_seconds",
            "when an Alertmanager last took alerts",
            labels=["alertmanager"],
        )
        requests = CounterMetricFamily(
            METRIC_PREFIX + "pager_requests", "requests to an Alertmanager", labels=["alertmanager", "outcome"]
        )
        refused = CounterMetricFamily(
            METRIC_PREFIX + "pager_refused", "alerts that an Alertmanager does not take", labels=["alertmanager"]
        )
        for client in self._clients():
            pushed.add_metric([client.url], client.pushed_at)
            for outcome in ("ok", "failed"):
                requests.add_metric([client.url, outcome], client.requests[outcome])
            refused.add_metric([client.url], client.refused)
        firing = Counter(lease.labels["severity"] for lease in self._book.firing())
        alerts = GaugeMetricFamily(METRIC_PREFIX + "pager_alerts", "alerts that fire", labels=["severity"])
        for severity in SEVERITIES:
            alerts.add_metric([severity], firing[severity])
        unreadable = CounterMetricFamily(METRIC_PREFIX + "pager_unreadable", "records that could not be read")
        unreadable.add_metric([], self._unreadable())
        watchdog = GaugeMetricFamily(
            METRIC_PREFIX + "pager_watchdog_timestamp_seconds", "when Prometheus' watchdog was last heard of"
        )
        if self._desk.watchdog_at is not None:
            watchdog.add_metric([], self._desk.watchdog_at)
        read = GaugeMetricFamily(
            METRIC_PREFIX + "pager_read_timestamp_seconds", "everything was read that was there at this time"
        )
        if read_at := self._read_at():
            read.add_metric([], read_at)
        yield from (pushed, requests, refused, alerts, unreadable, watchdog, read)

    def _incidents(self) -> Iterator[Metric]:
        known = self._desk.incidents.known.values()
        (sli,) = (each for each in SLIS if each.id == "M8")
        valid = CounterMetricFamily(f"{METRIC_PREFIX}{sli.name}_valid", "M8: incidents resolved", labels=sli.labels)
        bad = CounterMetricFamily(f"{METRIC_PREFIX}{sli.name}_bad", "M8: not " + sli.text, labels=sli.labels)
        open_now = GaugeMetricFamily(METRIC_PREFIX + "incidents_open", "incidents", labels=["severity", "phase"])
        opened = CounterMetricFamily(METRIC_PREFIX + "incidents_opened", "incidents opened", labels=sli.labels)
        for severity in SEVERITIES:
            of_severity = [one for one in known if one.severity == severity]
            took = [seconds for one in of_severity if (seconds := one.took("resolve")) is not None]
            valid.add_metric([severity], len(took))
            bad.add_metric([severity], sum(seconds > GOOD_SECONDS for seconds in took))
            opened.add_metric([severity], len(of_severity))
            states = Counter(one.phase for one in of_severity)
            for state in _STATES:
                open_now.add_metric([severity, state], states[state])
        failed = CounterMetricFamily(METRIC_PREFIX + "incident_captures_failed", "bundles that were not written")
        failed.add_metric([], self._desk.captures_failed)
        told = CounterMetricFamily(METRIC_PREFIX + "incident_notifications", "notifications of Alertmanager")
        told.add_metric([], self._desk.notifications)
        yield from (valid, bad, open_now, opened, failed, told)
        yield from self._durations()

    def _durations(self) -> Iterator[Metric]:
        found = phases(self._desk.incidents.known.values())
        for name, text, pick in _FIGURES:
            family = GaugeMetricFamily(METRIC_PREFIX + name, text, labels=["severity", "phase"])
            for (severity, phase), figures in found.items():
                value = pick(figures)
                if value is not None:
                    family.add_metric([severity, phase], value)
            yield family


_FIGURES: Final[tuple[tuple[str, str, Callable[[Figures], float | None]], ...]] = (
    ("incident_phase_incidents", "incidents in which a phase has ended", lambda figures: float(figures.n)),
    ("incident_phase_mean_seconds", "mean time that a phase took", lambda figures: figures.mean),
    ("incident_phase_median_seconds", "median time that a phase took", lambda figures: figures.median),
    ("incident_phase_p90_seconds", "time that nine in ten stayed below", lambda figures: figures.p90),
    ("incident_phase_median_low_seconds", "lower end of the median's 95 % interval", lambda figures: figures.low),
    ("incident_phase_median_high_seconds", "upper end of the median's 95 % interval", lambda figures: figures.high),
)
