"""What schedulers must do, one record a change of it.

The key is directive and target: a workload whose canary is rolled back may be on its classical path as well, and the
topic is compacted.
"""

from collections.abc import Iterator

import msgspec

from app.conventions import DIRECTIVES
from app.core.outcomes import Lifted, Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for directive in outcomes.directives:
        key = f"{directive.directive}/{directive.target}".encode()
        # A tombstone lifts.
        yield Line(key, None if isinstance(directive, Lifted) else msgspec.json.encode(directive))


SINK = TopicSink(DIRECTIVES, _lines, by_key=True)
