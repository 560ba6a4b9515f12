"""Records that nobody meant to send: arbitrary bytes, and valid records with something wrong in them. Seeded."""

import json
import random
from hashlib import sha256

import msgspec
from asking import question
from records import Log, Record, dump, event, lifecycle, result, stamp
from streams import pack

from app.conventions import (
    ADMISSION_REQUESTS,
    ADMISSIONS,
    ALERTS,
    CHECKPOINTS,
    DECISIONS,
    DIRECTIVE_KINDS,
    DIRECTIVES,
    EVIDENCE,
    GAP_HEADER,
    HEARTBEAT_HEADER,
    INCIDENTS,
    JOBS,
    POLICY_HEADER,
    REBASELINE_HEADER,
    REPLAY_REQUESTS,
    RESULTS,
    SAMPLES,
    SEAL_HEADER,
    VIOLATIONS,
)
from app.core.outcomes import Broken, Budget, Conflict, Spending, Unauthorized
from app.core.reproducibility import Counted
from app.core.sequences import packed
from app.stream.checkpoint import Manifest
from app.stream.logs import Mark
from app.stream.protocol import Notes, Suspect

NAMES = ("", "x", "run-1", "\x00", "a\x1fb", "../../etc", "<script>", "\u202e", "\U0001f600", "é" * 64, "1" * 16, "@")
NUMBERS = (0, -1, 1, 0.5, 1e308, -1e308, 5e-324, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400)
VALUES = (None, True, False, [], {}, [[]], {"": {}}, *NAMES, *NUMBERS)
HEADERS = (
    *(HEARTBEAT_HEADER, GAP_HEADER, REBASELINE_HEADER, POLICY_HEADER, SEAL_HEADER, "traceparent", "content-type"),
    *(
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_subject",
        "ce_time",
        "ce_",
        "correlation-id",
        "",
        "é",
        "\\xff",
    ),
)
TEXTS = (
    *(None, b"", b"1", b"1.0", b"\xff\xfe", b"x" * 70_000, b"9" * 20 + b":00", b"2026-01-01T00:00:00Z", b"-1"),
    *(b"application/cloudevents+json", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01", b"io.qethics.job.completed"),
)
TIMES = (0, -1, -(2**63), 2**63 - 1, int(Log.START * 1000), int(Log.START * 1000) + 10**9)


#: Topics whose values are MessagePack; those of all others are JSON.
PACKED = {SAMPLES, CHECKPOINTS}
STAGE = "group/runs"
STATE = b"state" * 20


def valid(topic, rng):
    """A key and a value as their own producers write them."""
    run_id = f"run-{rng.randrange(50)}"
    key, value = _VALID[topic](run_id, rng)
    return key, msgspec.msgpack.encode(value) if topic in PACKED else dump(value)


def _job(run_id, rng):
    reviewed = event("review", run_id, reviewer="somebody", verdict="passed")
    return run_id.encode(), rng.choice([*lifecycle(run_id), reviewed, event("failed", run_id, error="it broke")])


def _admission(run_id, rng):
    said = {"run_id": run_id, "answer": rng.choice(["allow", "deny", "fallback_classical"]), "timestamp": _time(rng)}
    if rng.random() < 0.5:
        document = {"judging": ["run", "routing"], "run": {"tier": "high"}, "routing": {"endpoint": "somewhere"}}
        # Written as `dump` writes it, so that the digest is that of the bytes in the record.
        said |= {"input": document, "input_digest": sha256(dump(document)).hexdigest()}
    return run_id.encode(), said


def _pack(run_id, rng):
    first = rng.randrange(10_000)
    more = {
        "spending": [Spending(first, Log.START, "logistics", "quantum", 1_000_000)],
        "sequences": {"test": packed([first, first + 1])},
        "unauthorized": [Unauthorized(first, Log.START, run_id, "ibm", "nowhere", "not approved")],
        "broken": [Broken(b"12345678", Log.START, run_id, "explained", "high", "owner", "reason")],
        "counted": [Counted(first, Log.START, run_id, "ghz-5", None, msgspec.msgpack.encode({"0": 5}))],
        "conflicts": [Conflict(first, Log.START, run_id, "test", "event")],
        "budgets": [Budget(first, "logistics", 25.0)],
    }
    return None, pack(first, [0.9], **{name: value for name, value in more.items() if rng.random() < 0.5})


def _checkpoint(run_id, rng):
    """A manifest whose one piece is on hand or not, the notes after it, or a piece."""
    mark, suspect = Mark(rng.randrange(100), 1, "ab"), Suspect(JOBS, 5, 9, 1, "why")
    notes, positions = Notes({JOBS: mark}, (suspect,)), {JOBS: rng.randrange(100), RESULTS: rng.randrange(100)}
    manifest = Manifest("c", positions, 0, 1, len(STATE), sha256(STATE).hexdigest(), notes)
    return rng.choice([(f"{STAGE}/manifest".encode(), manifest), (f"{STAGE}/notes".encode(), notes), (b"piece", 1)])


def _directive(run_id, rng):
    kind, target = rng.choice(DIRECTIVE_KINDS), rng.choice(["logistics", "route-planning/ibm_fez", "nowhere"])
    order = {"directive_id": run_id, "directive": kind, "target": target, "reason": "the hour is spent"}
    return f"{kind}/{target}".encode(), order | {"issued_at": _time(rng), "expires_at": _time(rng)}


def _alert(run_id, rng):
    status, labels = rng.choice(["firing", "resolved"]), {"workload": "route-planning", "backend": "ibm_fez"}
    alert = {"alert_id": "a", "fingerprint": run_id, "name": "FidelityDrift", "severity": rng.choice(["page", "info"])}
    alert |= {"status": status, "at": _time(rng), "labels": labels, "summary": "it drifts", "figures": {"size": 0.5}}
    return run_id.encode(), alert | {"run_ids": [run_id], "notes": {"since": _time(rng), "cause": "unknown"}}


def _act(run_id, rng):
    kind = rng.choice(["opened", "acknowledged", "mitigated", "resolved", "captured", "noted"])
    by = rng.choice(["alertmanager", "jane"])
    act = {"incident_id": run_id, "act": kind, "at": _time(rng), "by": by, "text": "it is known", "digest": "sha256:1"}
    alert = {"fingerprint": "f", "alertname": "FidelityCollapse", "severity": "page", "starts_at": _time(rng)}
    return f"{run_id}/{kind}".encode(), act | alert | {"labels": {"a": "b"}, "annotations": {"runs": run_id}}


def _evidence(run_id, rng):
    if rng.random() < 0.2:
        addendum = {"kind": "addendum", "evidence_id": "e", "run_id": run_id, "topic": JOBS, "event": {}}
        return run_id.encode(), addendum
    closed, missing = rng.choice(["complete", "abandoned"]), {"seed": "not sent"}
    found = {"kind": "run", "evidence_id": "e", "run_id": run_id, "closed": closed, "complete": False}
    found |= {"fields": {"tier": "high"}, "missing": missing, "required": ["seed"], "illegal_transitions": []}
    return run_id.encode(), found | {"steps": [["submitted", _time(rng)], ["timed_out", _time(rng)]]}


def _violation(run_id, rng):
    names = ("violation_id", "severity", "owner", "control", "policy_revision", "input_digest")
    mode = rng.choice(["enforce", "warn"])
    broken = {"run_id": run_id, "rule": "explained", "mode": mode, "reason": "why", "at": _time(rng)}
    return run_id.encode(), dict.fromkeys(names, "x") | broken


def _decision(run_id, rng):
    said = {"decision_id": "d", "run_id": run_id, "timestamp": _time(rng), "labels": {}, "bundles": {}}
    said |= {"input": {}, "input_digest": "0", "result": {"allow": False, "violations": []}, "answer": "deny"}
    return run_id.encode(), said


def _replay(run_id, rng):
    names = ("workload", "tier", "circuit_digest", "backend")
    asked = {"request_id": "r", "run_id": run_id, "seed": 1, "shots": 100, "at": _time(rng), "chosen_by": "seed 1"}
    return run_id.encode(), asked | dict.fromkeys(names, "x")


def _time(rng):
    """A time, now and then at the ends of the calendar or without a place on earth."""
    ends = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", "20260101", "now"]
    return rng.choice(ends) if rng.random() < 0.1 else stamp(Log.START + rng.randrange(-10_000, 10_000))


_VALID = {
    JOBS: _job,
    RESULTS: lambda run_id, rng: (run_id.encode(), result(run_id)),
    ADMISSIONS: _admission,
    SAMPLES: _pack,
    CHECKPOINTS: _checkpoint,
    ADMISSION_REQUESTS: lambda run_id, rng: (run_id.encode(), question(run_id) | {"request_id": f"q-{rng.random()}"}),
    DIRECTIVES: _directive,
    ALERTS: _alert,
    INCIDENTS: _act,
    EVIDENCE: _evidence,
    VIOLATIONS: _violation,
    DECISIONS: _decision,
    REPLAY_REQUESTS: _replay,
}


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


def _value(topic, given, rng):
    """A value for a topic: a third as it is given, a third changed by its bytes, a third by its meaning."""
    act = rng.random()
    if act < 0.3:
        return given
    if act < 0.35:
        return rng.choice(
            [None, b"", rng.randbytes(rng.randrange(200)), b"[" * 100_000, b'"' + b"x" * 1_100_000 + b'"']
        )
    if act < 0.65:
        return _bytes(given, rng)
    if topic in PACKED:
        try:
            return msgspec.msgpack.encode(_tree(msgspec.msgpack.decode(given), rng))
        except OverflowError:
            return given  # MessagePack has no such number
    text = json.dumps(_tree(json.loads(given), rng))
    return (text[:-1] + ',"run_id":"twice"}' if act > 0.97 and text.endswith("}") else text).encode()


def record(topic, offset, rng, at_ms=int(Log.START * 1000)):
    """A record: now and then with a key, headers or a time that nobody meant."""
    headers = ()
    if rng.random() < 0.3:
        headers = tuple((rng.choice(HEADERS), rng.choice(TEXTS)) for _ in range(rng.randrange(1, 8)))
    at = at_ms if rng.random() < 0.9 else rng.choice(TIMES)
    key, given = valid(topic, rng)
    if rng.random() < 0.3:
        key = rng.choice([None, b"", b"run-1", b"\xff", b"k" * 10_000])
    return Record(offset, at, key, _value(topic, given, rng), headers)


def records(topic, count, seed, at_ms=int(Log.START * 1000)):
    """So many records of a topic; most of them written at `at_ms`, in milliseconds since the epoch."""
    rng = random.Random(f"{topic} {seed}")
    return [record(topic, offset, rng, at_ms) for offset in range(count)]
