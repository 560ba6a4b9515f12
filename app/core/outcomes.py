"""What a stage concludes, as values. Sinks write them down; nothing here knows where."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Raw, Struct, field

from app.core.decode import Reason
from app.core.obedience import Answer
from app.core.records import Record
from app.core.reproducibility import Counted

#: The release of a canary that does not say which it is.
CANARY: Final = "canary"


class DeadLetter(Struct, frozen=True, gc=False):
    """A record that was not taken in: the record itself, where it stood and why."""

    record: Record
    topic: str
    partition: int
    reason: Reason
    detail: str


class Violation(Struct, frozen=True, gc=False, kw_only=True):
    """A rule of the policy was broken by a run."""

    violation_id: str
    run_id: str
    rule: str
    #: `enforce`, `warn` or `dry_run` of a rule that denies nothing yet, or `exempt` with the id of the `exemption`.
    mode: str
    severity: str
    owner: str
    control: str
    reason: str
    policy_revision: str
    input_digest: str
    at: str
    exemption: str | None = None
    #: The trace of the run, as its producers named it.
    traceparent: str | None = None


class BundleName(Struct, frozen=True, gc=False):
    """Which rules decided."""

    revision: str
    digest: str
    version: int


class Denied(Struct, frozen=True, gc=False):
    """A rule that was broken, and why."""

    rule: str
    reason: str


class Result(Struct, frozen=True, gc=False):
    """What the rules said, before exemptions and modes."""

    allow: bool
    violations: tuple[Denied, ...]


class DecisionRecord(Struct, frozen=True, gc=False, kw_only=True):
    """A decision that was asked for at admission, or in the stream with something found."""

    decision_id: str
    run_id: str
    #: Of the request, at admission.
    req_id: str | None = None
    trace_id: str | None = None
    #: When it was decided: in the stream by the clock of its logs.
    timestamp: str
    requested_by: str | None = None
    labels: dict[str, str]
    bundles: dict[str, BundleName]
    path: str = "qethics/decision"
    input: Raw
    #: SHA-256 of `input` as it stands here.
    input_digest: str
    result: Result
    #: JSON pointers to what was masked before the rules saw it.
    masked: tuple[str, ...] = ()
    #: Exemptions that were applied, by id.
    exemptions: tuple[str, ...] = ()
    answer: Answer
    #: What led to the answer beside the rules: active directives, as directive/target.
    directives: tuple[str, ...] = ()
    #: Rules that gave no answer and that admission went on without.
    failed_open: tuple[str, ...] = ()


class Evidence(Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="run"):
    """What an auditor asks about one closed run. `missing` gives the reason for every field that is not there."""

    evidence_id: str
    run_id: str
    closed: str
    complete: bool
    fields: dict[str, Any]
    missing: dict[str, str]
    required: tuple[str, ...]
    steps: list[tuple[str, str]]
    illegal_transitions: list[tuple[str, str]]
    #: What the rules said of all of it; None where they were not asked.
    verdict: Literal["allow", "deny"] | None = None
    #: The trace of the run, as its producers named it.
    traceparent: str | None = None


class Addendum(Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="addendum"):
    """An event of a run whose evidence was written already; `event` is the record's value as it came."""

    evidence_id: str
    run_id: str
    topic: str
    event: Raw


class Alert(Struct, frozen=True, gc=False, kw_only=True):
    """Something a person should see. One `fingerprint` per condition, whatever its figures."""

    alert_id: str
    fingerprint: str
    name: str
    severity: str
    status: str
    at: str
    labels: dict[str, str]
    summary: str
    figures: dict[str, float]
    run_ids: tuple[str, ...] = ()
    #: What is to be known beside the labels: cause, guarantee, calibrations, the kind of baseline.
    notes: dict[str, str] = field(default_factory=dict)


#: Seconds since the epoch, within what a calendar has.
At = Annotated[float, Meta(ge=0, le=5e9)]


class Observation(Struct, frozen=True, gc=False, array_like=True):
    """What one result, decision or charge says to its streams. `at` in seconds since the epoch."""

    offset: int
    at: At
    run_id: str
    calibration_id: str | None
    fidelity: float | None = None
    standard_error: float | None = None
    queue_seconds: float | None = None
    execution_seconds: float | None = None
    #: Shots whose outcome is impossible for a perfect device; None where every outcome is possible.
    errors: int | None = None
    shots: int | None = None
    #: The canary release it is of; None for the stable one.
    canary: str | None = None
    #: The counts, packed (`app.core.bitstrings`); None where nobody asks which outcomes moved.
    outcomes: bytes | None = None
    cost_usd: float | None = None
    explanation_score: float | None = None
    #: The outcome of a decision, and whether it is the workload's favourable one: 1 or 0.
    outcome: str | None = None
    decision: float | None = None


class Spending(Struct, frozen=True, gc=False, array_like=True):
    """Money spent: when, by whom, on what; in millionths of a dollar, so that sums do not depend on order.

    It brings the budget along that the policy in force gives the cost center, so that the streams go by what is signed.
    """

    offset: int
    at: At
    cost_center: str
    runtime: str
    microdollars: Annotated[int, Meta(ge=-(10**13), le=10**13)]
    #: Dollars an hour; None where there is no budget.
    budget_usd: float | None = None


class Budget(Struct, frozen=True, gc=False, array_like=True):
    """What a cost center may spend in an hour from here on, in dollars; None where it has no budget any more."""

    offset: int
    cost_center: str
    usd: float | None


class Unauthorized(Struct, frozen=True, gc=False, array_like=True):
    """A run that was sent where it may not go. `provider` is a label; `at` in seconds since the epoch."""

    offset: int
    at: At
    run_id: str
    provider: str
    endpoint: str
    reason: str


class Broken(Struct, frozen=True, gc=False, array_like=True):
    """A rule that a run broke: `id` is the first eight bytes of its violation's."""

    id: bytes
    at: At
    run_id: str
    rule: str
    severity: str
    owner: str
    reason: str


class Conflict(Struct, frozen=True, gc=False, array_like=True):
    """A second event under the id of one that was taken in, with other content. `at` in seconds since the epoch."""

    offset: int
    at: At
    run_id: str
    producer: str
    event_id: str


class ReplayRequest(Struct, frozen=True, gc=False, kw_only=True):
    """A run that is to be made again, and by what rule it was chosen."""

    request_id: str
    run_id: str
    workload: str | None
    tier: str | None
    circuit_digest: str | None
    seed: int | None
    shots: int | None
    backend: str | None
    at: str
    #: The seed and the share it was chosen by: `app.core.reproducibility.Replays.chosen`.
    chosen_by: str
    traceparent: str | None = None


class Directive(Struct, frozen=True, gc=False, kw_only=True):
    """What a scheduler must do now, until it expires."""

    directive_id: str
    directive: str
    target: str
    reason: str
    issued_at: str
    expires_at: str


class Lifted(Struct, frozen=True, gc=False):
    """A directive that is to be obeyed no more."""

    directive: str
    target: str


class Gap(Struct, frozen=True, gc=False):
    """Notice to the runs of one partition that events of a producer were lost."""

    partition: int
    producer: str


class Pack(Struct, array_like=True):
    """What one batch of an input partition says to one partition of the streams: a single `samples` record.

    `first` and `next` delimit the batch. One record per batch and target is what lets the reader keep a single
    position per source and still be exact: packs of one source arrive in order, whole or not at all.
    """

    topic: str
    partition: int
    first: int
    next: int
    #: (workload, backend) -> observations, by offset.
    observations: dict[str, list[Observation]] = field(default_factory=dict)
    spending: list[Spending] = field(default_factory=list)
    #: producer -> its sequence numbers in the batch: int64, little-endian.
    sequences: dict[str, bytes] = field(default_factory=dict)
    unauthorized: list[Unauthorized] = field(default_factory=list)
    #: How a run ended is judged at a tick, and with which log that comes is not fixed; so these are known again by id.
    broken: list[Broken] = field(default_factory=list)
    #: Counts of runs that may be replayed, and of replays.
    counted: list[Counted] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    #: Where another policy came into force. What was spent after it in this batch says so itself.
    budgets: list[Budget] = field(default_factory=list)


class Outcomes(Struct):
    """Everything one batch led to."""

    dead_letters: list[DeadLetter] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    decisions: list[DecisionRecord] = field(default_factory=list)
    evidence: list[Evidence | Addendum] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    replay_requests: list[ReplayRequest] = field(default_factory=list)
    #: Orders, and orders that hold no more, as they came.
    directives: list[Directive | Lifted] = field(default_factory=list)
    #: target partition of `samples` -> its pack.
    packs: dict[int, Pack] = field(default_factory=dict)
