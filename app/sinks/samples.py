"""What a batch says to the streams, one packed record for each partition of `samples` it concerns."""

from collections.abc import Iterator

import msgspec

from app.conventions import SAMPLES
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for partition, pack in outcomes.packs.items():
        yield Line(None, msgspec.msgpack.encode(pack), partition=partition)


SINK = TopicSink(SAMPLES, _lines)
