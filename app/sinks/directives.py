"""What schedulers must do, one record a change of it.

The key is directive and target: a workload whose canary is rolled back may be on its classical path as well, and the
topic is compacted.
"""

from collections.abc import Iterator

import msgspec

from app.conventions import DIRECTIVES
from app.core.outcomes import Directive, Lifted, Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for directive in outcomes.directives:
        yield Line(_key(directive), msgspec.json.encode(directive))
    for lifted in outcomes.lifted:
        yield Line(_key(lifted), None)  # a tombstone


def _key(order: Directive | Lifted) -> bytes:
    return f"{order.directive}/{order.target}".encode()


SINK = TopicSink(DIRECTIVES, _lines)
