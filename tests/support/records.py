"""Records and batches without a broker."""

import json
from datetime import UTC, datetime
from typing import NamedTuple

from app.conventions import HEARTBEAT_HEADER
from app.core.clock import WINDOW
from app.core.records import Batch


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple = ()


class Log:
    """A log per topic that hands out batches; time is in seconds since the epoch."""

    START = 1_790_000_000.0

    def __init__(self, partition=0):
        self.partition = partition
        self.offsets = {}

    def batch(self, topic, values, at=START, headers=()):
        first = self.offsets.get(topic, 0)
        records = [
            Record(first + index, int(at * 1000), b"key", raw(value), headers) for index, value in enumerate(values)
        ]
        self.offsets[topic] = first + len(records)
        return Batch(topic, self.partition, first, first + len(records), records)

    def heartbeat(self, topic, at):
        return self.batch(topic, [b"{}"], at, ((HEARTBEAT_HEADER, b"1"),))

    def agreed(self, topic, at):
        """So many heartbeats dated about `at` that the clock believes them, however far it is from there."""
        return [self.heartbeat(topic, at - back / 1000) for back in reversed(range(WINDOW))]


def raw(value):
    return value if isinstance(value, bytes | None) else dump(value)


def dump(value):
    return json.dumps(value).encode()


def event(kind, run_id="run-1", *, at=Log.START, **fields):
    """A job event; its id follows from its kind and run."""
    return {
        "type": kind,
        "event_id": f"{kind}-{run_id}",
        "run_id": run_id,
        "at": stamp(at),
        "producer": "test",
        "seq": 0,
        **fields,
    }


def result(run_id="run-1", *, at=Log.START, **fields):
    return {
        "event_id": f"result-{run_id}",
        "run_id": run_id,
        "at": stamp(at),
        "producer": "test",
        "seq": 0,
        "workload": "route-planning",
        "backend": "ibm_fez",
        "shots": 100,
        "counts": {"00000": 48, "11111": 50, "00001": 2},
        "ideal_id": "ghz-5",
        "calibration_id": "fez-1",
        "calibrated_at": stamp(at - 3600),
        **fields,
    }


def stamp(at):
    return datetime.fromtimestamp(at, UTC).isoformat()


SUBMITTED = {
    "workload": "route-planning",
    "purpose": "routing",
    "tier": "medium",
    "sensitivity": "internal",
    "runtime": "quantum",
    "submitter": "svc",
    "cost_center": "logistics",
    "consent": {"granted": True, "scopes": ["routing"]},
    "encrypted": True,
    "code_digest": "sha256:c",
    "circuit_digest": "sha256:q",
    "inputs_digest": "sha256:i",
    "environment_digest": "sha256:e",
    "seed": 1,
    "shots": 100,
    "estimated_cost_usd": 1.25,
}
ROUTED = {
    "provider": "ibm",
    "endpoint": "ibm-us-east/quantum",
    "region": "us-east",
    "backend": "ibm_fez",
    "runtime": "quantum",
}


def lifecycle(run_id="run-1", *, at=Log.START, submitted=None, routed=None):
    """The job events of a run that lacks nothing."""
    return [
        event("submitted", run_id, at=at, **{**SUBMITTED, **(submitted or {})}),
        event("admitted", run_id, at=at + 1, decision_id="d-1", policy_revision="p-1"),
        event("routed", run_id, at=at + 2, **{**ROUTED, **(routed or {})}),
        event("started", run_id, at=at + 3),
        event("completed", run_id, at=at + 4),
        event(
            "decision",
            run_id,
            at=at + 5,
            outcome="approve",
            explanation={"method": "shap", "digest": "sha256:x", "score": 0.9},
            acted_on=True,
        ),
        event("cost", run_id, at=at + 6, amount_usd=1.25),
    ]
