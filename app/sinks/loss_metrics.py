"""What was not read, what was set aside, and what is not served, as metrics."""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from app.conventions import METRIC_PREFIX
from app.stream.partitions import PartitionWatch
from app.stream.shell import Shell

_REASONS = ("corrupt_batch", "decompression_bomb", "poison")


class LossCollector(Collector):
    """The losses of one worker.

    Parameters
    ----------
    shell
        Whose losses are shown.
    partitions
        What is known of the partitions of the topics.
    """

    def __init__(self, shell: Shell, partitions: PartitionWatch) -> None:
        self._shell = shell
        self._partitions = partitions

    def collect(self) -> Iterable[Metric]:
        """All of them, as they are now."""
        losses, names = self._shell.losses, self._shell.names
        # What is held has its zero from the start: of a series that begins at one, nobody sees an increase.
        held = {(name, unit.partition): 0 for unit in list(self._shell.units.values()) for name in unit.kind.topics}
        yield _counter(
            "records_deleted_unread",
            "records Kafka deleted before we read them",
            ["topic", "partition"],
            {**held, **{(names[tp.topic], tp.partition): count for tp, count in losses.deleted.items()}},
        )
        yield _counter(
            "logs_began_anew",
            "times that a log was found to be another than the one that was read",
            ["topic", "partition"],
            {**held, **{(names[tp.topic], tp.partition): count for tp, count in losses.began_anew.items()}},
        )
        aside = {(topic, number, reason): 0 for topic, number in held for reason in _REASONS}
        for (topic, number, reason), count in losses.set_aside.items():
            aside[names[topic], number, reason] = count
        text = "offsets whose records were set aside, unread by any stage"
        yield _counter("records_set_aside", text, ["topic", "partition", "reason"], aside)
        yield _counter("offsets_skipped", "offsets without a record: markers, compaction", [], {(): losses.skipped})
        beyond = GaugeMetricFamily(
            METRIC_PREFIX + "partitions_beyond", "partitions a topic has more than are served", labels=["topic"]
        )
        for topic, name in names.items():
            found = self._partitions.found.get(topic)
            beyond.add_metric([name], 0 if found is None else found - self._shell.partitions)
        yield beyond


def _counter(name: str, text: str, labels: list[str], values: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(METRIC_PREFIX + name, text, labels=labels)
    for key, value in values.items():
        family.add_metric([str(part) for part in key], value)
    return family
