"""Notices to the runs that events of a producer were lost: records of our own among the job events."""

from collections.abc import Iterator

from app.conventions import GAP_HEADER, JOBS
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for gap in outcomes.gaps:
        yield Line(None, b"{}", [(GAP_HEADER, gap.producer.encode())], partition=gap.partition)


SINK = TopicSink(JOBS, _lines)
