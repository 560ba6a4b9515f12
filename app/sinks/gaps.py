"""Notices to the runs that events of a producer were lost: control records among the job events."""

import time
from collections.abc import Iterator

from app.conventions import GAP_HEADER, JOBS
from app.core.outcomes import Outcomes
from app.core.seal import Seal
from app.sinks.topic import Line, TopicSink


def sink(seal: Seal) -> TopicSink:
    """Return the sink; `seal` is that of the deployment."""

    def lines(outcomes: Outcomes) -> Iterator[Line]:
        for gap in outcomes.gaps:
            headers = seal.headers(JOBS, gap.partition, GAP_HEADER, gap.producer.encode(), b"{}", time.time())
            yield Line(None, b"{}", headers, partition=gap.partition)

    return TopicSink(JOBS, lines)
