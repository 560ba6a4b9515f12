"""The evidence of closed runs, one record each, by run."""

from collections.abc import Iterator

import msgspec

from app.conventions import EVIDENCE
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for evidence in outcomes.evidence:
        yield Line(evidence.run_id.encode(), msgspec.json.encode(evidence))


SINK = TopicSink(EVIDENCE, _lines)
