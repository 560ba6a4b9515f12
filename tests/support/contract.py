"""What the contract takes on `jobs` and `results`, read by Python's own `json` alone: nothing of `app` is used."""

import json
import math
import re
from datetime import datetime

#: Reasons that depend on what came before: no single record shows them.
BY_STATE = {"conflicting_duplicate", "run_full", "too_late"}
MOST_BYTES, MOST_NESTING = 2**20, 64
CONTROL = {"qethics-heartbeat", "qethics-gap", "qethics-rebaseline", "qethics-policy"}
ENVELOPE = {"content-type", "ce_specversion"}
RUNTIMES = ("classical", "quantum", "hybrid")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)\Z")


class _Refused(Exception):
    """It is not taken."""


def _object(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a key twice")
    return found


def _constant(text):
    raise _Refused(text)


def _check(is_good, what=""):
    if not is_good:
        raise _Refused(what)


def text(least, most):
    return lambda value: _check(isinstance(value, str) and least <= len(value) <= most)


def number(low, high):
    def check(value):
        _check(isinstance(value, int | float) and not isinstance(value, bool))
        _check(math.isfinite(value) and low <= value <= high)

    return check


def whole(low, high):
    def check(value):
        _check(isinstance(value, int | float) and not isinstance(value, bool))
        _check(value == int(value) and low <= value <= high)

    return check


def one_of(*values):
    return lambda value: _check(isinstance(value, str) and value in values)


def truth(value):
    _check(isinstance(value, bool))


def instant(value):
    _check(isinstance(value, str) and _RFC3339.match(value))


def many(check, most):
    def each(value):
        _check(isinstance(value, list) and len(value) <= most)
        for one in value:
            check(one)

    return each


def mapping(name, check, most=10**9):
    def each(value):
        _check(isinstance(value, dict) and len(value) <= most)
        for key, one in value.items():
            name(key)
            check(one)

    return each


def struct(needed, optional):
    def check(value):
        _check(isinstance(value, dict))
        for key, each in needed.items():
            _check(key in value, key)
            each(value[key])
        for key, each in optional.items():
            if value.get(key) is not None:
                each(value[key])

    return check


ID, TEXT, DIGEST, BITS = text(1, 128), text(0, 1024), text(1, 160), text(1, 256)
SHARE, SECONDS, DOLLARS, COUNT = number(0, 1), number(0, 1e9), number(-1e6, 1e6), whole(0, 10**9)
SEED, SHOTS = whole(-(2**63), 2**63 - 1), whole(1, 10**9)
COMMON = {"event_id": ID, "run_id": ID, "at": instant, "producer": ID, "seq": whole(0, 2**53 - 1)}
DIGESTS = dict.fromkeys(("code_digest", "circuit_digest", "inputs_digest", "environment_digest"), DIGEST)
DECIDED = {"decision_id": ID, "policy_revision": ID, "reasons": many(TEXT, 64)}
CONSENT = struct({"granted": truth}, {"scopes": many(ID, 64)})
EXPLANATION = struct({"method": ID, "digest": DIGEST, "score": SHARE}, {})
NAMES = ("workload", "purpose", "submitter", "cost_center", "feature", "subject_token", "replay_of")
SUBMITTED = {
    **dict.fromkeys(NAMES, ID),
    **DIGESTS,
    "tier": one_of("low", "medium", "high"),
    "sensitivity": one_of("public", "internal", "confidential", "pii", "regulated"),
    "runtime": one_of(*RUNTIMES),
    "fallback": one_of(*RUNTIMES),
    "consent": CONSENT,
    "encrypted": truth,
    "canary": truth,
    "canary_share": SHARE,
    "seed": SEED,
    "shots": SHOTS,
    "estimated_cost_usd": DOLLARS,
    "deadline_seconds": number(0, 30 * 86_400),
}
ROUTED = {
    **dict.fromkeys(("provider", "endpoint", "region", "backend"), ID),
    "runtime": one_of(*RUNTIMES),
    "queue_depth": COUNT,
    "expected_wait_seconds": SECONDS,
}
OF_TYPE = {
    "submitted": SUBMITTED,
    "admitted": DECIDED,
    "rejected": DECIDED,
    "routed": ROUTED,
    "started": {},
    "completed": {},
    "failed": {"error": TEXT},
    "timed_out": {"error": TEXT},
    "fell_back": {"to": one_of(*RUNTIMES), "reason": TEXT},
    "rolled_back": {"reason": TEXT},
    "decision": {"decision_ref": ID, "outcome": ID, "explanation": EXPLANATION, "acted_on": truth},
    "review": {"reviewer": ID, "verdict": ID},
    "cost": {"units": ID, "billed_at": instant},
}
RESULT = {
    **dict.fromkeys(
        ("provider", "backend", "sdk", "ideal_id", "fidelity_estimator", "calibration_id", "replay_of", "release"), ID
    ),
    "ideal": mapping(BITS, SHARE),
    "fidelity": SHARE,
    "calibrated_at": instant,
    "circuit_digest": DIGEST,
    "environment_digest": DIGEST,
    "seed": SEED,
    "queue_seconds": SECONDS,
    "execution_seconds": SECONDS,
    "cost_usd": DOLLARS,
    "canary": truth,
    "not_given": mapping(ID, TEXT, 64),
    "provenance": mapping(ID, lambda value: None),
}


def refused(topic, value, headers, written):
    """Whether a record becomes a dead letter, whatever came before it, where control records are sealed.

    None where this reader does not know: of topics other than `jobs` and `results`, and of what may be a CloudEvent.
    `written` is when it was written, in seconds since the epoch.
    """
    names = {name for name, _ in headers}
    if topic not in {"jobs", "results"}:
        return None
    if names & CONTROL:
        return True  # nobody but the deployment has the key
    if names & ENVELOPE:
        return None
    try:
        _check(value and len(value) <= MOST_BYTES)
        _check(value[:3] != b"\xef\xbb\xbf")
        found = json.loads(value.decode(), object_pairs_hook=_object, parse_constant=_constant)
        json.dumps(found, ensure_ascii=False).encode()  # no half of a surrogate pair, which `json` lets through
        _check(_depth(found) <= MOST_NESTING)
        _event(topic, found, written)
    except (_Refused, ValueError, RecursionError, OverflowError):
        return True
    return False


def _depth(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_depth, inside), default=0)


def _event(topic, found, written):
    _check(isinstance(found, dict))
    if topic == "jobs":
        kind = found.get("type")
        _check(isinstance(kind, str) and kind in OF_TYPE, "type")
        needed = COMMON | ({"amount_usd": DOLLARS} if kind == "cost" else {})
        struct(needed, OF_TYPE[kind])(found)
        second = found.get("billed_at") if kind == "cost" else None
    else:
        struct(COMMON | {"workload": ID, "shots": SHOTS, "counts": mapping(BITS, COUNT)}, RESULT)(found)
        _check(sum(found["counts"].values()) == found["shots"])
        _check(not set("".join(found["counts"])) - {"0", "1"})
        second = found.get("calibrated_at")
    _check(found.get("schema_version", 1) == 1)
    at = datetime.fromisoformat(found["at"])
    _check(2015 <= at.year < 2100)
    _check(at.timestamp() <= written + 300)
    if second is not None:
        _check(-3660 * 86_400 <= (datetime.fromisoformat(second) - at).total_seconds() <= 86_400)
