"""Decision records, by run."""

from collections.abc import Iterator

import msgspec

from app.conventions import DECISIONS
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for decision in outcomes.decisions:
        yield Line(decision.run_id.encode(), msgspec.json.encode(decision))


SINK = TopicSink(DECISIONS, _lines)
