"""Records that nobody meant to send: arbitrary bytes, and valid records with something wrong in them. Seeded."""

import json
import random

import msgspec
from records import Log, Record, dump, event, lifecycle, result
from streams import pack

from app.conventions import (
    ADMISSIONS,
    GAP_HEADER,
    HEARTBEAT_HEADER,
    JOBS,
    POLICY_HEADER,
    REBASELINE_HEADER,
    RESULTS,
    SAMPLES,
    SEAL_HEADER,
)
from app.core.outcomes import Broken, Conflict, Spending, Unauthorized
from app.core.reproducibility import Counted
from app.core.sequences import packed

NAMES = ("", "x", "run-1", "\x00", "a\x1fb", "../../etc", "<script>", "\u202e", "\U0001f600", "é" * 64, "1" * 16, "@")
NUMBERS = (0, -1, 1, 0.5, 1e308, -1e308, 5e-324, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400)
VALUES = (None, True, False, [], {}, [[]], {"": {}}, *NAMES, *NUMBERS)
HEADERS = (
    *(HEARTBEAT_HEADER, GAP_HEADER, REBASELINE_HEADER, POLICY_HEADER, SEAL_HEADER, "traceparent", "content-type"),
    *("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_", "correlation-id", "", "é"),
)
TEXTS = (
    *(None, b"", b"1", b"1.0", b"\xff\xfe", b"x" * 70_000, b"9" * 20 + b":00", b"2026-01-01T00:00:00Z", b"-1"),
    *(b"application/cloudevents+json", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01", b"io.qethics.job.completed"),
)
TIMES = (0, -1, -(2**63), 2**63 - 1, int(Log.START * 1000), int(Log.START * 1000) + 10**9)


def valid(topic, rng):
    """A value as its own producers write it."""
    run_id = f"run-{rng.randrange(50)}"
    if topic == JOBS:
        reviewed = event("review", run_id, reviewer="somebody", verdict="passed")
        return dump(rng.choice([*lifecycle(run_id), reviewed, event("failed", run_id, error="it broke")]))
    if topic == RESULTS:
        return dump(result(run_id))
    if topic == ADMISSIONS:
        return dump({"run_id": run_id, "answer": rng.choice(["allow", "deny", "fallback_classical"])})
    first = rng.randrange(10_000)
    more = {
        "spending": [Spending(first, Log.START, "logistics", "quantum", 1_000_000)],
        "sequences": {"test": packed([first, first + 1])},
        "unauthorized": [Unauthorized(first, Log.START, run_id, "ibm", "nowhere", "not approved")],
        "broken": [Broken(b"12345678", Log.START, run_id, "explained", "high", "owner", "reason")],
        "counted": [Counted(first, Log.START, run_id, "ghz-5", None, msgspec.msgpack.encode({"0": 5}))],
        "conflicts": [Conflict(first, Log.START, run_id, "test", "event")],
    }
    chosen = {name: value for name, value in more.items() if rng.random() < 0.5}
    return msgspec.msgpack.encode(pack(first, [0.9], **chosen))


def _bytes(value, rng):
    """Some bytes of it changed, cut off, doubled or put in between."""
    place, length = rng.randrange(len(value) + 1), rng.randrange(1, 20)
    return rng.choice(
        [
            value[:place] + rng.randbytes(length) + value[place + length :],
            value[:place],
            value[:place] + value[place : place + length] * 2 + value[place:],
            value[:place] + rng.choice([b"[", b"{", b'"', b"\xff", b"\x00", b"\\ud800", b"NaN"]) + value[place:],
            value * rng.randrange(2, 4),
        ]
    )


def _tree(found, rng):
    """Something in a decoded value replaced, left out, or put in."""
    if isinstance(found, dict) and found:
        name = rng.choice(list(found))
        act = rng.randrange(5)
        if act == 0:
            return {key: value for key, value in found.items() if key != name}
        if act == 1:
            return {**found, rng.choice(NAMES): rng.choice(VALUES)}
        return {**found, name: _tree(found[name], rng) if act == 2 else rng.choice(VALUES)}
    if isinstance(found, list) and found:
        place = rng.randrange(len(found))
        return [*found[:place], _tree(found[place], rng), *found[place + 1 :]]
    return rng.choice(VALUES)


def value(topic, rng):
    """A value for a topic: a third of them valid, a third changed by its bytes, a third by its meaning."""
    given = valid(topic, rng)
    act = rng.random()
    if act < 0.3:
        return given
    if act < 0.35:
        return rng.choice(
            [None, b"", rng.randbytes(rng.randrange(200)), b"[" * 100_000, b'"' + b"x" * 1_100_000 + b'"']
        )
    if act < 0.65:
        return _bytes(given, rng)
    if topic == SAMPLES:
        try:
            return msgspec.msgpack.encode(_tree(msgspec.msgpack.decode(given), rng))
        except OverflowError:
            return given  # MessagePack has no such number
    text = json.dumps(_tree(json.loads(given), rng))
    return (text[:-1] + ',"run_id":"twice"}' if act > 0.97 and text.endswith("}") else text).encode()


def record(topic, offset, rng):
    """A record: now and then with a key, headers or a time that nobody meant."""
    headers = ()
    if rng.random() < 0.3:
        headers = tuple((rng.choice(HEADERS), rng.choice(TEXTS)) for _ in range(rng.randrange(1, 8)))
    at = int(Log.START * 1000) if rng.random() < 0.9 else rng.choice(TIMES)
    key = rng.choice([None, b"", b"run-1", b"\xff", b"k" * 10_000])
    return Record(offset, at, key, value(topic, rng), headers)


def records(topic, count, seed):
    """So many records of a topic."""
    rng = random.Random(f"{topic} {seed}")
    return [record(topic, offset, rng) for offset in range(count)]
