"""Alerts that the processor raised, one record for each change of one, by fingerprint."""

from collections.abc import Iterator

import msgspec

from app.conventions import ALERTS
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for alert in outcomes.alerts:
        yield Line(alert.fingerprint.encode(), msgspec.json.encode(alert))


SINK = TopicSink(ALERTS, _lines)
