"""Records that were not taken in: their original key, bytes and headers, with why and where they stood."""

from collections.abc import Iterator
from hashlib import sha256

from app.conventions import DEAD_LETTER
from app.core.identity import outcome_id
from app.core.outcomes import Outcomes
from app.sinks.topic import Line, TopicSink

#: The most of an original that is kept; anything larger cannot come in uncompressed.
MAX_BYTES = 4 * 1024 * 1024
MAX_KEY_BYTES = 4096
MAX_HEADERS = 64


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
        value = record.value
        if value is not None and len(value) > MAX_BYTES:
            # A compressed record may be larger than any topic takes; its digest still identifies the original.
            about |= {"truncated": "true", "original_size": len(value), "original_sha256": sha256(value).hexdigest()}
            value = value[:MAX_BYTES]
        headers = [(name, str(text).encode()) for name, text in about.items()]
        original = [(f"original-{name}"[:256], (text or b"")[:1024]) for name, text in record.headers[:MAX_HEADERS]]
        yield Line(record.key[:MAX_KEY_BYTES] if record.key is not None else None, value, [*headers, *original])


SINK = TopicSink(DEAD_LETTER, _lines)
