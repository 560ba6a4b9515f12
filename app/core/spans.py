"""What a trace shows of a run: spans, made of what the stages concluded. Nothing here knows who collects them.

A run without a trace of its own gets one whose id follows from the run id, so that who knows the run finds its trace.
Span ids follow from the run as well: what is concluded again after a crash is the same spans.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct, field

from app.core.identity import outcome_id
from app.core.ledger import TERMINAL
from app.core.outcomes import DecisionRecord, Evidence, Violation
from app.core.trace import RUN, span_id

Value = str | bool | int | float | tuple[str, ...]
#: Attributes of ours begin so.
PREFIX: Final = "qethics."
#: What a span of a run has of its evidence: what explains a result, nothing that names a person.
_OF_RUN: Final = (
    "workload",
    "purpose",
    "tier",
    "sensitivity",
    "runtime",
    "cost_center",
    "feature",
    "code_digest",
    "circuit_digest",
    "environment_digest",
    "shots",
    "canary",
    "provider",
    "endpoint",
    "region",
    "backend",
    "calibration_id",
    "decision_id",
    "policy_revision",
    "result_digest",
    "cost_usd",
)
_FAILED: Final = frozenset({"rejected", "failed", "timed_out", "rolled_back"})
#: What comes after these is no part of them.
_MOMENTS: Final = TERMINAL | {"fell_back"}


class Span(Struct, frozen=True, gc=False):
    """A piece of work with its beginning and end, in seconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    began_at: float
    ended_at: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    failed: bool = False
    kind: Literal["internal", "server", "consumer"] = "internal"


def derived_trace_id(run_id: str) -> str:
    """The id of the trace of a run whose producers named none."""
    return outcome_id("trace", run_id)


def is_grave(evidence: Evidence) -> bool:
    """Whether somebody will want to see this run: it broke a rule, failed, or lacks what it owes."""
    return evidence.verdict == "deny" or not evidence.complete or any(name in _FAILED for name, _ in evidence.steps)


def identified(trace: str | None, run_id: str) -> tuple[str, str | None, bool]:
    """The trace of a run, the span it continues and whether its producers recorded that; of a `traceparent` or none."""
    if trace is None:
        return derived_trace_id(run_id), None, False
    return trace[3:35], trace[36:52], bool(int(trace[53:], 16) & 1)


def of_run(evidence: Evidence) -> Iterator[Span]:
    """The spans of a closed run: the run, one a state, and its decision."""
    run_id = evidence.run_id
    trace, parent, _ = identified(evidence.traceparent, run_id)
    steps = [(name, _seconds(at)) for name, at in evidence.steps]
    decision = evidence.fields["decision"]
    decided_at = _seconds(decision["at"]) if decision is not None else None
    times = [at for _, at in steps] + ([decided_at] if decided_at is not None else [])
    if not times:
        return  # nothing but results: it has no time of its own
    whole = span_id(run_id, RUN)
    failed = evidence.verdict == "deny" or any(name in _FAILED for name, _ in steps)
    yield Span(RUN, trace, whole, parent, min(times), max(times), _run_attributes(evidence), failed)
    common = {PREFIX + "run_id": run_id}
    for number, (name, at) in enumerate(steps):
        is_last = number + 1 == len(steps) or name in _MOMENTS
        until = at if is_last else steps[number + 1][1]
        yield Span(name, trace, span_id(run_id, name, number), whole, at, until, common, name in _FAILED)
    if decided_at is not None:
        at = decided_at
        yield Span("decision", trace, span_id(run_id, "decision"), whole, at, at, _decision_attributes(evidence))


def _run_attributes(evidence: Evidence) -> dict[str, Value]:
    fields, found = evidence.fields, _named(evidence.fields, _OF_RUN)
    found |= _named(
        {
            "run_id": evidence.run_id,
            "closed": evidence.closed,
            "complete": evidence.complete,
            "verdict": evidence.verdict,
            "missing": tuple(name for name in evidence.required if fields[name] is None) or None,
        }
    )
    if fields["fidelity"] is not None:
        of = fields["fidelity"]
        found |= _named({"fidelity": of["value"], "fidelity_standard_error": of["standard_error"]})
    return found


def _decision_attributes(evidence: Evidence) -> dict[str, Value]:
    decision, explanation, review = (evidence.fields[name] for name in ("decision", "explanation", "review"))
    return _named(
        {
            "run_id": evidence.run_id,
            "workload": evidence.fields["workload"],
            "outcome": decision["outcome"],
            "acted_on": decision["acted_on"],
            "explanation_score": explanation.score if explanation is not None else None,
            "review": review["verdict"] if review is not None else None,
        }
    )


def of_violation(violation: Violation) -> Span:
    """A rule that a run broke, as a moment of its trace."""
    run_id = violation.run_id
    trace, _, _ = identified(violation.traceparent, run_id)
    at = _seconds(violation.at)
    names = ("run_id", "rule", "mode", "severity", "owner", "control", "reason", "policy_revision")
    of = _named({name: getattr(violation, name) for name in names})
    own, parent = span_id(run_id, "violation", violation.violation_id), span_id(run_id, RUN)
    return Span("violation", trace, own, parent, at, at, of, failed=True)


def of_admission(record: DecisionRecord, trace: str | None, began_at: float, ended_at: float) -> Span:
    """What the gate was asked and answered.

    Parameters
    ----------
    record
        The decision.
    trace
        The `traceparent` of the request.
    began_at, ended_at
        Seconds since the epoch.
    """
    run_id = record.run_id
    found, parent, _ = identified(trace, run_id)
    attributes = _named(
        {
            "run_id": run_id,
            "decision_id": record.decision_id,
            "answer": record.answer,
            "rules": tuple(sorted({each.rule for each in record.result.violations})) or None,
            "policy_revision": ", ".join(sorted({bundle.revision for bundle in record.bundles.values()})),
            "directives": record.directives or None,
            "exemptions": record.exemptions or None,
            "failed_open": record.failed_open or None,
        }
    )
    own = span_id(run_id, "admission", record.decision_id)
    above = parent if parent is not None else span_id(run_id, RUN)
    return Span("admission", found, own, above, began_at, ended_at, attributes, record.answer == "deny", "server")


class Sampler:
    """Which runs are traced: a share of them, and so many a second at most of those that somebody will want to see.

    Parameters
    ----------
    ratio
        The share of all traces, in [0, 1], by their id: whoever samples by the same rule keeps the same ones
        (OpenTelemetry's TraceIdRatioBased). What producers recorded is kept as well.
    per_second
        Of ordinary runs at most, and of grave ones at most, > 0: what bounds the cost.
    """

    def __init__(self, ratio: float, per_second: float) -> None:
        #: Runs that were to be traced, and were too many.
        self.left_out = 0
        self._bound = round(ratio * 2**64)
        self._limits = {False: Limit(per_second), True: Limit(per_second)}

    def wants(self, trace_id: str, *, recorded: bool, grave: bool, now: float) -> bool:
        """Whether a run is traced.

        Parameters
        ----------
        trace_id
            32 hexadecimal digits.
        recorded
            Whether its producers recorded their part.
        grave
            Whether somebody will want to see it.
        now
            In seconds, of any clock that does not go back.
        """
        if not (grave or recorded or int(trace_id[16:], 16) < self._bound):
            return False
        taken = self._limits[grave].take(now)
        self.left_out += not taken
        return taken


class Limit:
    """A token bucket: so many a second (> 0), at most a second's worth at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = self._most
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more fits, at `now` in seconds of any clock that does not go back."""
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _named(values: Mapping[str, Any], names: tuple[str, ...] | None = None) -> dict[str, Value]:
    """What there is of some values, as attributes of ours."""
    chosen = values if names is None else {name: values[name] for name in names}
    return {PREFIX + name: value for name, value in chosen.items() if value is not None}
