"""Policy violations, one record each, by run."""

from collections.abc import Iterator

import msgspec

from app.conventions import VIOLATIONS
from app.core.outcomes import Outcomes
from app.core.trace import carried
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for violation in outcomes.violations:
        yield Line(
            violation.run_id.encode(), msgspec.json.encode(violation), carried(violation.traceparent, violation.run_id)
        )


SINK = TopicSink(VIOLATIONS, _lines)
