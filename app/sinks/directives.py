"""What schedulers must do, one record a change of it, by target."""

from collections.abc import Iterator

import msgspec

from app.conventions import DIRECTIVES
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for directive in outcomes.directives:
        yield Line(directive.target.encode(), msgspec.json.encode(directive))
    for target in outcomes.lifted:
        yield Line(target.encode(), None)  # a tombstone: the topic is compacted


SINK = TopicSink(DIRECTIVES, _lines)
