"""The evidence of closed runs, one record each, by run."""

from collections.abc import Iterator

import msgspec

from app.conventions import EVIDENCE
from app.core.outcomes import Evidence, Outcomes
from app.core.trace import carried
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for evidence in outcomes.evidence:
        headers = carried(evidence.traceparent, evidence.run_id) if isinstance(evidence, Evidence) else ()
        yield Line(evidence.run_id.encode(), msgspec.json.encode(evidence), headers)


SINK = TopicSink(EVIDENCE, _lines)
