"""Bytes to events. A record that is no event becomes a `Rejection` with a reason; nothing here raises."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
import numpy as np

from app.core.events import AnyJobEvent, Cost, Event, Result, Submitted
from app.unreadable import UNREADABLE, said_of

MAX_BYTES: Final = 1024 * 1024
MAX_NESTING: Final = 64
MAX_OUTCOMES: Final = 65_536
#: How far ahead of the partition's clock an event may be dated, in seconds: producers' clocks differ.
MAX_AHEAD_SECONDS: Final = 300.0
#: Events dated before this year are a unit mistake or an unset clock: there was no quantum computer in any cloud.
EARLIEST_YEAR: Final = 2015
LATEST_YEAR: Final = 2100
#: How far a time of billing or calibration may be from the event's own.
MAX_BACK: Final = timedelta(days=3660)
MAX_AHEAD: Final = timedelta(days=1)

Headers = Sequence[tuple[str, bytes | None]]


class Reason(StrEnum):
    """Why a record was not taken in."""

    NULL_VALUE = "null_value"
    EMPTY_VALUE = "empty_value"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    NOT_UTF8 = "not_utf8"
    NON_FINITE = "non_finite"
    MALFORMED_JSON = "malformed_json"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version"
    MISSING_FIELD = "missing_field"
    INVALID_FIELD = "invalid_field"
    COUNTS_MISMATCH = "counts_mismatch"
    BAD_BITSTRING = "bad_bitstring"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    TOO_LATE = "too_late"
    RUN_FULL = "run_full"
    CLOUDEVENTS = "cloudevents"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    POLICY_REFUSED = "policy_refused"
    UNSEALED_CONTROL = "unsealed_control"
    #: Set aside before they came to a stage (`app.stream`): they do not parse; they become too large as they are
    #: decompressed; they ended the process twice.
    CORRUPT_BATCH = "corrupt_batch"
    DECOMPRESSION_BOMB = "decompression_bomb"
    POISON = "poison"


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A record that is no event: the reason, and a detail for the person who will look."""

    reason: Reason
    detail: str


_JOB = msgspec.json.Decoder(AnyJobEvent)
_RESULT = msgspec.json.Decoder(Result)
_ANY = msgspec.json.Decoder(dict[str, Any])


#: An event, and its content: what it says written down in one way, so that two records with equal content say the same.
Read = tuple[Any, bytes]


def read_job(value: bytes | None, headers: Headers = ()) -> Read | Rejection:
    """Decode the value of a `jobs` record, with its content. As `decode_job`."""
    read = _decode(_JOB, AnyJobEvent, value, headers)
    if type(read) is tuple and type(read[0]) is Cost and not _near(read[0].billed_at, read[0]):
        return Rejection(Reason.TIME_OUT_OF_RANGE, "billed_at is too far from at")
    return read


def decode_job(value: bytes | None, headers: Headers = ()) -> AnyJobEvent | Rejection:
    """Decode the value of a `jobs` record.

    Parameters
    ----------
    value
        The record's value: UTF-8 JSON of at most 1 MiB, nesting at most 64.
    headers
        The record's headers; CloudEvents 1.0 is recognised by them.

    Returns
    -------
    The event, or a `Rejection`. Never raises.
    """
    read = read_job(value, headers)
    return read if isinstance(read, Rejection) else read[0]


def decode_result(value: bytes | None, headers: Headers = ()) -> Result | Rejection:
    """Decode the value of a `results` record. As `decode_job`; the counts must add up to the shots."""
    read = read_result(value, headers)
    return read if isinstance(read, Rejection) else read[0]


def read_result(value: bytes | None, headers: Headers = ()) -> Read | Rejection:
    """Decode the value of a `results` record, with its content. As `decode_result`."""
    read = _decode(_RESULT, Result, value, headers)
    if isinstance(read, Rejection):
        return read
    decoded: Result = read[0]
    counts = decoded.counts
    if sum(counts.values()) != decoded.shots:
        return Rejection(Reason.COUNTS_MISMATCH, f"counts add up to {sum(counts.values())}, shots say {decoded.shots}")
    if "".join(counts).encode().strip(b"01"):
        return Rejection(Reason.BAD_BITSTRING, "an outcome has characters other than 0 and 1")
    if decoded.calibrated_at is not None and not _near(decoded.calibrated_at, decoded):
        return Rejection(Reason.TIME_OUT_OF_RANGE, "calibrated_at is too far from at")
    if len(counts) > MAX_OUTCOMES:
        return Rejection(Reason.INVALID_FIELD, f"{len(counts)} outcomes, at most {MAX_OUTCOMES} are taken")
    return read


def _near(instant: datetime | None, event: Event) -> bool:
    """Whether a second time of an event is plausible: at most ten years before it, and a day after it."""
    if instant is None:
        return True
    if abs(instant.year - event.at.year) > 10:  # first, because near the ends of the calendar a difference overflows
        return False
    return -MAX_BACK <= instant - event.at <= MAX_AHEAD


def _decode(decoder: Any, kind: Any, given: bytes | None, headers: Headers) -> Read | Rejection:
    value = given or b""
    if not value or len(value) > MAX_BYTES:
        return _of_wrong_size(given)
    envelope = None
    try:
        if not value.isascii():
            value.decode()  # msgspec does not look into the texts of fields that it does not know
        if headers:
            envelope = _cloudevent(value, headers)
            event = decoder.decode(value) if envelope is None else msgspec.convert(envelope, kind)
        else:
            event = decoder.decode(value)
    except _CloudEventFault as fault:
        return _nested(value) or Rejection(Reason.CLOUDEVENTS, str(fault))
    except UNREADABLE as error:
        return _nested(value) or _rejection_of(value, error)
    content = _ENCODER.encode(event)
    if envelope is not None or _may_say_more(value, event, content):
        refused = _nested(value) or _repeated(value)
        if refused is not None:
            return refused
    year = event.at.year
    if EARLIEST_YEAR <= year < LATEST_YEAR:
        return event, content
    return Rejection(Reason.TIME_OUT_OF_RANGE, f"at is in the year {year}")


def _of_wrong_size(value: bytes | None) -> Rejection:
    if value is None:
        return Rejection(Reason.NULL_VALUE, "a tombstone")
    if not value:
        return Rejection(Reason.EMPTY_VALUE, "no bytes")
    return Rejection(Reason.TOO_LARGE, f"{len(value)} bytes, at most {MAX_BYTES} are taken")


def _nested(value: bytes) -> Rejection | None:
    return Rejection(Reason.TOO_DEEP, f"nesting above {MAX_NESTING}") if too_deep(value) else None


def _repeated(value: bytes) -> Rejection | None:
    key = repeated_key(value)
    return None if key is None else _repeats(key)


def too_deep(value: bytes) -> bool:
    """Whether a JSON text is nested more deeply than is taken."""
    # More openings than the limit is the only way to be too deep, and counting is far cheaper than nesting them.
    openings = len(value) - len(value.translate(None, b"{["))
    return openings > MAX_NESTING and nesting(value) > MAX_NESTING


#: What each byte does to the depth.
_STEPS: Final = np.zeros(256, np.int8)
_STEPS[[0x5B, 0x7B]] = 1
_STEPS[[0x5D, 0x7D]] = -1
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C


def nesting(value: bytes) -> int:
    """The deepest nesting of a JSON text; brackets inside strings do not count.

    In arrays: a value of 1 MiB is the sender's choice, and a loop over its bytes would keep all others waiting.
    """
    text = np.frombuffer(value, np.uint8)
    steps = _STEPS[text]
    quotes = np.flatnonzero(text == _QUOTE)
    if len(quotes):
        lengths = np.diff(quotes, prepend=0, append=len(text))
        steps[np.repeat(np.append(False, _opened(text, quotes)), lengths)] = 0
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _opened(text: np.ndarray, quotes: np.ndarray) -> np.ndarray:
    """Whether a string is open after each of the quotes.

    A quote opens or closes. After an odd number of backslashes it closes nothing, as it is escaped inside a string (RFC
    8259, section 7); outside of one they mean nothing, and it opens: so a string is open after it in either case.
    """
    is_backslash = text == _BACKSLASH
    turns = np.arange(1, len(quotes) + 1)
    if is_backslash.any():
        others = np.where(is_backslash, -1, np.arange(len(text)))
        last_other = np.append(-1, np.maximum.accumulate(others))[quotes]
        is_escaped = (quotes - 1 - last_other) % 2 == 1
        turns = np.cumsum(~is_escaped)
        last_escaped = np.maximum.accumulate(np.where(is_escaped, np.arange(len(quotes)), -1))
        turns = np.where(last_escaped < 0, turns, 1 + turns - turns[last_escaped])
    is_open: np.ndarray = turns % 2 == 1
    return is_open


_KEY: Final = re.compile(rb'"([^"\\]*)"\s*:')
_ENCODER: Final = msgspec.json.Encoder()


def _may_say_more(value: bytes, event: Any, content: bytes) -> bool:
    """Return whether a JSON text may have more keys than the event that was decoded from it.

    Of two equal keys one parser takes the first and another one the last (RFC 8259, section 4), so that an auditor
    could read another event than the one that was judged; and what is nested too deeply stands in a field that is
    unknown to us. An event leaves out what is at its default when it is written down again, so it never has more
    quotes than the text it came from, and a key of either kind has two that it lacks. This only decides who is looked
    at closely.
    """
    if value == content:
        return False
    if type(event) is Submitted and event.consent is not None and not event.consent.scopes:
        return True  # the rules see a consent whole, so this one is written down with what is at its default
    return b"\\" in value or value.count(b'"') != content.count(b'"')


def _repeats(key: str) -> Rejection:
    return Rejection(Reason.DUPLICATE_KEY, f"the key {key[:100]!r} stands twice in one object")


class _RepeatedKey(Exception):
    pass


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1))


def repeated_key(value: bytes) -> str | None:
    """Return a key that an object of a JSON text has twice; None if there is none."""
    if b"\\" not in value:
        keys = _KEY.findall(value)
        if len(keys) == len(set(keys)):
            return None
    try:
        json.loads(value, object_pairs_hook=_distinct)
    except _RepeatedKey as found:
        return str(found)
    except UNREADABLE:
        return None  # that the decoder took it and this one does not is no matter of keys
    return None


_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NON_FINITE = re.compile(rb"\b(?:NaN|Infinity|nan|inf|infinity)\b")


def _rejection_of(value: bytes, error: Exception) -> Rejection:
    """Name what is wrong with a value that did not decode; only ever run on bad input, so it may take its time."""
    try:
        value.decode()
    except UnicodeDecodeError as fault:
        return Rejection(Reason.NOT_UTF8, f"byte {fault.start}: {fault.reason}")
    detail = said_of(error)
    if isinstance(error, msgspec.ValidationError):
        if (twice := repeated_key(value)) is not None:
            return _repeats(twice)
        return Rejection(_validation_reason(detail), detail)
    if _NON_FINITE.search(_STRINGS.sub(b"", value)):
        return Rejection(Reason.NON_FINITE, "JSON has no NaN or Infinity (RFC 8259, section 6)")
    return Rejection(Reason.MALFORMED_JSON, detail)


def _validation_reason(detail: str) -> Reason:
    if "missing required field `type`" in detail or detail.endswith("`$.type`"):
        return Reason.UNKNOWN_TYPE
    if detail.endswith("`$.schema_version`"):
        return Reason.UNKNOWN_SCHEMA_VERSION
    if "missing required field" in detail:
        return Reason.MISSING_FIELD
    if "Number out of range" in detail:
        return Reason.NON_FINITE
    if detail.endswith("`$.at`"):
        return Reason.TIME_OUT_OF_RANGE
    return Reason.INVALID_FIELD


# -- CloudEvents 1.0, Kafka protocol binding -----------------------------------------------------------------------
# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md


class _CloudEventFault(ValueError):
    pass


#: CloudEvents attribute -> our field, filled in where the data leaves the field out.
_ATTRIBUTES: Final = {"id": "event_id", "source": "producer", "subject": "run_id", "time": "at"}
_STRUCTURED: Final = b"application/cloudevents"
#: Headers that say whether a record is a CloudEvent.
_ENVELOPE: Final = frozenset({"content-type", "ce_specversion"})


def _cloudevent(value: bytes, headers: Headers) -> dict[str, Any] | None:
    """The event inside a CloudEvent, or None where the record is not one."""
    envelope = {name: text for name, text in headers if name in _ENVELOPE}
    if not envelope:
        return None
    if (envelope.get("content-type") or b"").lower().startswith(_STRUCTURED):
        return _structured(value)
    if "ce_specversion" not in envelope:
        return None
    try:
        attributes = {
            name.removeprefix("ce_"): text.decode() for name, text in headers if name.startswith("ce_") and text
        }
    except UnicodeDecodeError as error:
        raise _CloudEventFault(f"an attribute is not UTF-8: {error.reason}") from error
    return _filled(_ANY.decode(value), attributes)


def _structured(value: bytes) -> dict[str, Any]:
    envelope = _ANY.decode(value)
    if "data_base64" in envelope:
        try:
            envelope["data"] = _ANY.decode(base64.b64decode(envelope["data_base64"], validate=True))
        except (binascii.Error, TypeError) as error:
            raise _CloudEventFault("data_base64 is not base64") from error
    data = envelope.pop("data", None)
    if not isinstance(data, dict):
        raise _CloudEventFault("data must be a JSON object")
    return _filled(data, {name: text for name, text in envelope.items() if isinstance(text, str)})


def _filled(data: dict[str, Any], attributes: dict[str, str]) -> dict[str, Any]:
    if attributes.get("specversion") != "1.0":
        raise _CloudEventFault(f"specversion is {attributes.get('specversion')!r}, 1.0 is taken")
    for required in ("id", "source", "type"):
        if not attributes.get(required):
            raise _CloudEventFault(f"the required attribute {required} is missing")
    for attribute, field in _ATTRIBUTES.items():
        if attribute in attributes:
            data.setdefault(field, attributes[attribute])
    # Reverse-DNS types end in the step's name: `io.qethics.job.submitted`.
    data.setdefault("type", attributes["type"].rsplit(".", 1)[-1])
    return data
