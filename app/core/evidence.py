"""The evidence of a run: which fields there are, which of them a tier requires, and why one is missing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from app.core import ledger
from app.core.fidelity import ESTIMATOR
from app.core.identity import outcome_id, unpacked_digest
from app.core.outcomes import Evidence
from app.core.run import Declared, Own, Results, Run, declared_values, own_values, routing_values
from app.core.trace import trace_id, traceparent

#: 2100-01-01.
_LATEST: Final = 4_102_444_800.0
SUBMITTED: Final = (*Declared.__struct_fields__, *Own.__struct_fields__)
ROUTED: Final = ("provider", "endpoint", "region", "backend", "routed_runtime")
RESULT: Final = (
    "calibration_id",
    "calibrated_at",
    "fidelity",
    "result_digest",
    "result_environment_digest",
    "result_shots",
    "signature",
)
#: Every field, with the input that brings it.
SOURCES: Final[dict[str, str]] = {
    **dict.fromkeys(SUBMITTED, "submitted"),
    "decision_id": "admitted",
    "policy_revision": "admitted",
    **dict.fromkeys(ROUTED, "routed"),
    **dict.fromkeys(RESULT, "result"),
    "decision": "decision",
    "explanation": "decision",
    "review": "review",
    "cost_usd": "cost",
    "trace_id": "traceparent",
}
FIELDS: Final = tuple(SOURCES)
BITS: Final = {name: 1 << index for index, name in enumerate(FIELDS)}


def mask(names: tuple[str, ...], values: tuple[object, ...]) -> int:
    """The bits of the fields whose value is there."""
    bits = 0
    for name, value in zip(names, values, strict=True):
        if value is not None:
            bits |= BITS[name]
    return bits


class Requirements(Struct, frozen=True):
    """Which fields a run of a tier must have: always, and more when it ran on a quantum or hybrid runtime."""

    always: tuple[str, ...]
    quantum: tuple[str, ...]

    def fields(self, runtime: str | None) -> tuple[str, ...]:
        """The fields required of a run on `runtime`; an unknown runtime is held to all of them."""
        return self.always if runtime == "classical" else self.always + self.quantum

    def bits(self, runtime: str | None) -> int:
        """The same as bits."""
        return sum(BITS[name] for name in self.fields(runtime))


def effective_runtime(run: Run) -> str | None:
    """Where the run really went, or what it asked for while that is unknown."""
    if run.routing is not None and run.routing.runtime is not None:
        return run.routing.runtime
    return run.declared.runtime if run.declared is not None else None


def instant(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC; before 1970 and after 2100 the nearest of the two."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LATEST), UTC).isoformat().removesuffix("+00:00") + "Z"


def collect(
    run_id: str, run: Run, path: list[tuple[str, float]], required: tuple[str, ...], gaps: Sequence[str] = ()
) -> Evidence:
    """The evidence record of a run that closes now.

    Parameters
    ----------
    run_id, run
        The run.
    path
        Its steps (`ledger.steps`).
    required
        The fields its tier requires.
    gaps
        Producers of the run that are known to have lost events.
    """
    fields = _values(run)
    ended = bool(run.steps & ledger.TERMINAL_BITS)
    complete = ended and all(fields[name] is not None for name in required)
    missing = {name: _reason(name, run, gaps) for name in FIELDS if fields[name] is None}
    return Evidence(
        evidence_id=outcome_id("evidence", run_id),
        run_id=run_id,
        closed="complete" if complete else "incomplete" if ended else "abandoned",
        complete=complete,
        fields=fields,
        missing=missing,
        required=required,
        steps=[(name, instant(at)) for name, at in path],
        illegal_transitions=ledger.illegal_transitions(path),
        verdict=None if not run.judged else "deny" if run.violated else "allow",
        traceparent=traceparent(run.trace),
    )


def _values(run: Run) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(FIELDS)
    if run.declared is not None and run.own is not None:
        values.update(zip(SUBMITTED, declared_values(run.declared) + own_values(run.own), strict=True))
        values["inputs_digest"] = unpacked_digest(run.own.inputs_digest)
    values["decision_id"] = run.decision_id
    values["policy_revision"] = run.policy_revision
    if run.routing is not None:
        values.update(zip(ROUTED, routing_values(run.routing), strict=True))
    if run.results is not None:
        values.update(_resulted(run.results))
    if run.decision is not None:
        if run.decision.made:
            made = run.decision
            values["decision"] = {"outcome": made.outcome, "acted_on": made.acted_on, "at": instant(made.at)}
        values["explanation"] = run.decision.explanation
        if run.decision.reviewer is not None:
            values["review"] = {"reviewer": run.decision.reviewer, "verdict": run.decision.verdict}
    if run.present & BITS["cost_usd"]:
        values["cost_usd"] = run.microdollars / 1e6
    values["trace_id"] = trace_id(run.trace)
    return values


def _resulted(results: Results) -> dict[str, Any]:
    values: dict[str, Any] = {
        "calibration_id": results.origin.calibration_id,
        "calibrated_at": None if results.origin.calibrated_at is None else instant(results.origin.calibrated_at),
        "result_digest": "sha256:" + results.digest.hex(),
        "result_environment_digest": results.origin.environment_digest,
        "result_shots": results.shots,
        "signature": True if results.signed else None,
    }
    if results.fidelity_n:
        values["fidelity"] = {
            "value": results.fidelity_sum / results.fidelity_n,
            "standard_error": results.error_sum**0.5 / results.fidelity_n,
            "estimator": ESTIMATOR,
            "results": results.fidelity_n,
            "shots": results.shots,
        }
    return values


def _reason(name: str, run: Run, gaps: Sequence[str]) -> str:
    """Why a field is missing: the provider does not give it, or its event never came, or came without it."""
    if run.results is not None and run.results.not_given and name in run.results.not_given:
        return "not given by the provider: " + run.results.not_given[name]
    source = SOURCES[name]
    if source == "result":
        arrived = run.results is not None
    elif source == "decision":
        arrived = run.decision is not None and run.decision.made
    else:
        arrived = source in ledger.NAMES and bool(run.steps >> ledger.NAMES.index(source) & 1)
    if arrived:
        return "not sent"
    if gaps and source != "traceparent":
        return f"lost: no {source} arrived, and there is a gap in the sequence numbers of {', '.join(gaps)}"
    return f"no {source} arrived"
