"""Records that were not taken in: their original key, bytes and headers, with why and where they stood."""

from collections.abc import Iterator

from app.conventions import DEAD_LETTER
from app.core.identity import outcome_id
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink


def _lines(outcomes: Outcomes) -> Iterator[Line]:
    for letter in outcomes.dead_letters:
        record = letter.record
        about = {
            "id": outcome_id("dead-letter", letter.topic, letter.partition, record.offset),
            "reason": letter.reason.value,
            "detail": letter.detail,
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": record.offset,
            "received_at": record.timestamp,
        }
        original = [(f"original-{name}", value) for name, value in record.headers]
        headers = [(name, str(value).encode()) for name, value in about.items()]
        yield Line(record.key, record.value, [*headers, *original])


SINK = TopicSink(DEAD_LETTER, _lines)
