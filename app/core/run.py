"""What the ledger remembers of one open run: a few hundred bytes.

What runs have in common (workload, tier, endpoint, ...) is kept once and shared; what is a run's own is packed. Every
type is array-like msgspec, so a checkpoint is one encode in C and reads back typed.
"""

from operator import attrgetter
from typing import Any, Final, NamedTuple

from msgspec import Struct

from app.core import events

#: What is kept of each event of a run: eight bytes of which it is, four of what it says.
SEEN_BYTES: Final = 12


class Declared(Struct, frozen=True, gc=False, array_like=True):
    """What a submission says that other runs say as well."""

    workload: str | None
    purpose: str | None
    tier: str | None
    sensitivity: str | None
    runtime: str | None
    submitter: str | None
    cost_center: str | None
    feature: str | None
    consent: events.Consent | None
    encrypted: bool | None
    code_digest: str | None
    circuit_digest: str | None
    environment_digest: str | None
    shots: int | None
    canary: bool | None
    canary_share: float | None
    fallback: str | None
    deadline_seconds: float | None


class Own(Struct, frozen=True, gc=False, array_like=True):
    """What a submission says of this run alone."""

    subject_token: str | None
    #: A SHA-256 as its 32 bytes; any other digest as it was written.
    inputs_digest: Any
    seed: int | None
    estimated_cost_usd: float | None
    replay_of: str | None


class Derived(Struct, frozen=True, gc=False, array_like=True):
    """What the policy may know of a submission beyond what it declares; most runs have it in common."""

    #: Whether there is a subject token.
    tokenised: bool
    #: What it takes to make the run again, as far as the submission names it: names of fields.
    material: tuple[str, ...]
    #: Rounded up to the cent.
    estimated_cost_usd: float | None


class Routing(Struct, frozen=True, gc=False, array_like=True):
    """Where a run was sent."""

    provider: str | None = None
    endpoint: str | None = None
    region: str | None = None
    backend: str | None = None
    runtime: str | None = None


class Origin(Struct, frozen=True, gc=False, array_like=True):
    """Where results came from. `calibrated_at` in seconds since the epoch."""

    provider: str | None
    backend: str | None
    calibration_id: str | None
    calibrated_at: float | None
    environment_digest: str | None


class Decision(Struct, gc=False, array_like=True):
    """The decision that a run influenced, and what a person said of it."""

    outcome: str | None = None
    explanation: events.Explanation | None = None
    acted_on: bool | None = None
    reviewer: str | None = None
    verdict: str | None = None
    #: Whether the decision itself has come, and not only a review of it.
    made: bool = False
    #: When it was made and when it was reviewed first, by the events; seconds since the epoch.
    at: float = 0.0
    reviewed_at: float | None = None


class Results(Struct, gc=False, array_like=True):
    """What the results of a run add up to, whatever order they came in."""

    #: Sum modulo 2^256 of the SHA-256 of every result's bytes; of one result, its SHA-256. 32 bytes, big-endian.
    digest: bytes
    origin: Origin
    shots: int = 0
    fidelity_n: int = 0
    fidelity_sum: float = 0.0
    #: Sum of squared standard errors.
    error_sum: float = 0.0
    signed: bool = False
    not_given: dict[str, str] | None = None


class Judged(Struct, gc=False, array_like=True):
    """A job event set aside until the run's submission says what it is judged by. `offset` is its own."""

    offset: int
    event: events.Routed | events.DecisionMade | events.Cost


class Run(Struct, gc=False, array_like=True):
    """One open run. `closes_at` is in seconds watched (`RunStage.time`)."""

    closes_at: int
    #: Bits of the evidence fields that are there (`evidence.BITS`).
    present: int = 0
    #: Bits of the steps that were seen (`ledger.CODES`).
    steps: int = 0
    #: Every event applied, `SEEN_BYTES` each (`identity.event_mark`, `identity.content_mark`).
    seen: bytes = b""
    #: Nine bytes of every step.
    history: bytes = b""
    #: Who sent its events.
    producers: tuple[str, ...] = ()
    #: When it was closed, in seconds watched. From then on only what may still be judged of it is kept.
    closed_at: float | None = None
    declared: Declared | None = None
    own: Own | None = None
    derived: Derived | None = None
    #: Where it was sent last, by the events' own times.
    routing: Routing | None = None
    #: Where else it was sent before: when first (seconds since the epoch), and where.
    earlier: tuple[tuple[float, Routing], ...] = ()
    results: Results | None = None
    decision_id: str | None = None
    policy_revision: str | None = None
    decision: Decision | None = None
    microdollars: int = 0
    #: The trace it is part of (`app.core.trace`).
    trace: bytes | None = None
    #: Whether it counts in M5, whether it counts there as bad, and whether the run itself was judged.
    judged: bool = False
    violated: bool = False
    ruled: bool = False
    #: Nothing that the tier requires is missing; the run closes shortly.
    complete: bool = False
    pending: list[Judged] | None = None
    #: Eight bytes of each of its charges: those that come again are known for longer than its other events.
    charges: bytes = b""
    #: Of a closed run: what the gate had answered (`obedience.packed`), and eight bytes of each rule and reason that
    #: the whole of it broke.
    answers: bytes = b""
    told: bytes = b""


class Payer(NamedTuple):
    """Who pays for a run, and for what."""

    cost_center: str
    runtime: str
    workload: str
    canary: bool


declared_values: Final = attrgetter(*Declared.__struct_fields__)
own_values: Final = attrgetter(*Own.__struct_fields__)
routing_values: Final = attrgetter(*Routing.__struct_fields__)
