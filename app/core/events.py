"""The contract in code: job events and results as frozen values.

Every field that a producer may leave out is optional here: what is missing is evidence (SLI M1), not an error. What is
present must be of its type and within its limits, or the record is rejected whole.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

#: An identifier: 1 to 128 characters.
Id = Annotated[str, Meta(min_length=1, max_length=128)]
#: A short free text, such as the reason of a failure: at most 1,024 characters.
Text = Annotated[str, Meta(max_length=1024)]
#: A content digest with its algorithm in front, e.g. ``sha256:...``.
Digest = Annotated[str, Meta(min_length=1, max_length=160)]
#: RFC 3339 with an offset (https://www.rfc-editor.org/rfc/rfc3339).
Instant = Annotated[datetime, Meta(tz=True)]
#: Gap-free counter of one producer; within what JSON numbers carry exactly (RFC 8259, section 6).
Sequence = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Reasons = Annotated[tuple[Text, ...], Meta(max_length=64)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
#: At most 30 days: an open run is memory.
Deadline = Annotated[float, Meta(ge=0, le=30 * 86_400)]
#: US dollars. Negative amounts are corrections.
Dollars = Annotated[float, Meta(ge=-1e6, le=1e6)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Shots = Annotated[int, Meta(ge=1, le=10**9)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
#: One measured outcome, qubit 0 rightmost (the order in which Qiskit prints).
Bitstring = Annotated[str, Meta(min_length=1, max_length=256)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

Tier = Literal["low", "medium", "high"]
Sensitivity = Literal["public", "internal", "confidential", "pii", "regulated"]
Runtime = Literal["classical", "quantum", "hybrid"]

SCHEMA_VERSION: Final = 1


class Consent(Struct, frozen=True, gc=False):
    """What the data subject agreed to."""

    granted: bool
    scopes: Annotated[tuple[Id, ...], Meta(max_length=64)] = ()


class Explanation(Struct, frozen=True, gc=False):
    """How a decision was explained: the method, a digest of the explanation, a score in [0, 1]."""

    method: Id
    digest: Digest
    score: Probability


class Event(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What every input carries. Written down again it leaves out what is at its default (`app.core.decode`)."""

    event_id: Id
    run_id: Id
    at: Instant
    producer: Id
    seq: Sequence
    schema_version: Literal[1] = SCHEMA_VERSION


class JobEvent(Event, frozen=True, gc=False, tag_field="type"):
    """A step in the life of a run."""


class Submitted(JobEvent, frozen=True, gc=False, tag="submitted"):
    """A run was asked for; it declares what it is for and what it is made of."""

    workload: Id | None = None
    purpose: Id | None = None
    tier: Tier | None = None
    sensitivity: Sensitivity | None = None
    runtime: Runtime | None = None
    submitter: Id | None = None
    cost_center: Id | None = None
    feature: Id | None = None
    consent: Consent | None = None
    subject_token: Id | None = None
    encrypted: bool | None = None
    code_digest: Digest | None = None
    circuit_digest: Digest | None = None
    inputs_digest: Digest | None = None
    environment_digest: Digest | None = None
    seed: Seed | None = None
    shots: Shots | None = None
    estimated_cost_usd: Dollars | None = None
    canary: bool | None = None
    #: The share of the workload's runs that goes to the canary release.
    canary_share: Probability | None = None
    #: Where the answer comes from when the quantum path has none.
    fallback: Runtime | None = None
    replay_of: Id | None = None
    deadline_seconds: Deadline | None = None


class Admitted(JobEvent, frozen=True, gc=False, tag="admitted"):
    """The scheduler was allowed to run it."""

    decision_id: Id | None = None
    policy_revision: Id | None = None
    reasons: Reasons = ()


class Rejected(JobEvent, frozen=True, gc=False, tag="rejected"):
    """The scheduler was not allowed to run it. Terminal."""

    decision_id: Id | None = None
    policy_revision: Id | None = None
    reasons: Reasons = ()


class Routed(JobEvent, frozen=True, gc=False, tag="routed"):
    """The run was sent somewhere."""

    provider: Id | None = None
    endpoint: Id | None = None
    region: Id | None = None
    backend: Id | None = None
    runtime: Runtime | None = None
    queue_depth: Count | None = None
    expected_wait_seconds: Seconds | None = None


class Started(JobEvent, frozen=True, gc=False, tag="started"):
    """Execution began."""


class Completed(JobEvent, frozen=True, gc=False, tag="completed"):
    """Execution ended well. Terminal."""


class Failed(JobEvent, frozen=True, gc=False, tag="failed"):
    """Execution ended with an error. Terminal."""

    error: Text | None = None


class TimedOut(JobEvent, frozen=True, gc=False, tag="timed_out"):
    """Execution took too long. Terminal."""

    error: Text | None = None


class FellBack(JobEvent, frozen=True, gc=False, tag="fell_back"):
    """The run went on on a classical path."""

    to: Runtime | None = None
    reason: Text | None = None


class RolledBack(JobEvent, frozen=True, gc=False, tag="rolled_back"):
    """What the run had caused was undone. Terminal."""

    reason: Text | None = None


class DecisionMade(JobEvent, frozen=True, gc=False, tag="decision"):
    """The run influenced a decision."""

    decision_ref: Id | None = None
    outcome: Id | None = None
    explanation: Explanation | None = None
    acted_on: bool | None = None


class Review(JobEvent, frozen=True, gc=False, tag="review"):
    """A person looked at it."""

    reviewer: Id | None = None
    verdict: Id | None = None


class Cost(JobEvent, frozen=True, gc=False, tag="cost"):
    """Money was spent on it."""

    amount_usd: Dollars
    units: Id | None = None
    billed_at: Instant | None = None


AnyJobEvent = (
    Submitted
    | Admitted
    | Rejected
    | Routed
    | Started
    | Completed
    | Failed
    | TimedOut
    | FellBack
    | RolledBack
    | DecisionMade
    | Review
    | Cost
)


class Result(Event, frozen=True, gc=False):
    """What a device or simulator returned for one circuit of a run.

    `not_given` names provenance fields that the provider does not report, each with the reason, so that they show as
    missing for that reason and not as forgotten.
    """

    workload: Id
    shots: Shots
    counts: dict[Bitstring, Count]
    provider: Id | None = None
    backend: Id | None = None
    sdk: Id | None = None
    ideal: dict[Bitstring, Probability] | None = None
    ideal_id: Id | None = None
    fidelity: Probability | None = None
    fidelity_estimator: Id | None = None
    calibration_id: Id | None = None
    calibrated_at: Instant | None = None
    circuit_digest: Digest | None = None
    environment_digest: Digest | None = None
    seed: Seed | None = None
    queue_seconds: Seconds | None = None
    execution_seconds: Seconds | None = None
    cost_usd: Dollars | None = None
    replay_of: Id | None = None
    #: Whether this is of a canary release, and which release it is of.
    canary: bool | None = None
    release: Id | None = None
    not_given: Annotated[dict[Id, Text], Meta(max_length=64)] = {}
    provenance: dict[Id, Any] | None = None
