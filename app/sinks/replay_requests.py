"""Runs that are to be made again, one record each, by run."""

from collections.abc import Iterator

import msgspec

from app.conventions import REPLAY_REQUESTS
from app.core.outcomes import Outcomes
from app.core.trace import carried
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for request in outcomes.replay_requests:
        yield Line(request.run_id.encode(), msgspec.json.encode(request), carried(request.traceparent, request.run_id))


SINK = TopicSink(REPLAY_REQUESTS, _lines)
