"""Every topic, metric and alert name that leaves the process, spelled once."""

from typing import Final

from prometheus_client.utils import floatToGoString

TOPIC_PREFIX: Final = "qethics."

JOBS: Final = "jobs"
RESULTS: Final = "results"
SAMPLES: Final = "samples"
CHECKPOINTS: Final = "checkpoints"
VIOLATIONS: Final = "violations"
DECISIONS: Final = "decisions"
ADMISSIONS: Final = "admissions"
ADMISSION_REQUESTS: Final = "admission-requests"
ADMISSION_REPLIES: Final = "admission-replies"
EVIDENCE: Final = "evidence"
ALERTS: Final = "alerts"
DIRECTIVES: Final = "directives"
INCIDENTS: Final = "incidents"
REPLAY_REQUESTS: Final = "replay-requests"
DEAD_LETTER: Final = "dead-letter"

#: Topics that carry the partition count of the whole deployment. Inputs and what is derived from them share one
#: count, so that partition p of one is partition p of all (see `docs/architecture.md`, "Partitions").
TOPICS: Final = (
    JOBS,
    RESULTS,
    SAMPLES,
    CHECKPOINTS,
    VIOLATIONS,
    DECISIONS,
    ADMISSIONS,
    ADMISSION_REQUESTS,
    ADMISSION_REPLIES,
    EVIDENCE,
    ALERTS,
    DIRECTIVES,
    INCIDENTS,
    REPLAY_REQUESTS,
    DEAD_LETTER,
)

#: Topics whose partitions workers share out among them.
READ_BY_WORKERS: Final = frozenset({JOBS, RESULTS, ADMISSIONS, SAMPLES})

#: Records with these headers are our own and no events (`app.core.records.control`): one moves the clock of its
#: partition, one tells the runs that events of the producer it names were lost, one asks for a new baseline, one puts
#: the policy bundle that is its value in force.
HEARTBEAT_HEADER: Final = "qethics-heartbeat"
GAP_HEADER: Final = "qethics-gap"
REBASELINE_HEADER: Final = "qethics-rebaseline"
POLICY_HEADER: Final = "qethics-policy"
#: The keyed digest of such a record (`app.core.seal`).
SEAL_HEADER: Final = "qethics-seal"

#: Signal -> the alert of its drift.
DRIFT_ALERTS: Final = {
    "fidelity": "FidelityDrift",
    "error_rate": "ErrorRateDrift",
    "counts": "DistributionDrift",
    "queue_seconds": "QueueDrift",
    "execution_seconds": "ExecutionTimeDrift",
    "cost_usd": "CostDrift",
    "explanation_score": "ExplanationDrift",
    "decision": "DecisionDrift",
}
FIDELITY_COLLAPSE_ALERT: Final = "FidelityCollapse"
QUEUE_PILEUP_ALERT: Final = "QueuePileup"
#: Signal -> the alert of a change that is so large that it pages and orders the classical path.
GRAVE_ALERTS: Final = {"fidelity": FIDELITY_COLLAPSE_ALERT, "queue_seconds": QUEUE_PILEUP_ALERT}
CANARY_ALERT: Final = "CanaryVerdict"
SPEND_BURN_ALERT: Final = "SpendBurnRate"
BUDGET_ALERT: Final = "HourlyBudgetSpent"
REPLAY_ALERT: Final = "ReplayDivergence"
VIOLATION_ALERT: Final = "PolicyViolation"
UNAUTHORIZED_ALERT: Final = "UnauthorizedRouting"
DISABLE_ROUTING: Final = "disable_routing"
ROLLBACK_CANARY: Final = "rollback_canary"
FALLBACK_CLASSICAL: Final = "fallback_classical"
FREEZE_OFFLOAD: Final = "freeze_offload"
DIRECTIVE_KINDS: Final = (DISABLE_ROUTING, ROLLBACK_CANARY, FALLBACK_CLASSICAL, FREEZE_OFFLOAD)
POLICY_REFUSED_ALERT: Final = "PolicyBundleRefused"
WATCHDOG_ALERT: Final = "Watchdog"
WATCHDOG_SILENT_ALERT: Final = "WatchdogSilent"
PAGER_ALERT: Final = "PagerHeartbeat"
EXEMPTION_ALERT: Final = "PolicyExemption"
BASELINE_ALERT: Final = "BaselineChanged"
PROVENANCE_GAP_ALERT: Final = "ProvenanceGap"
CONFLICT_ALERT: Final = "ConflictingDuplicate"

METRIC_PREFIX: Final = "qethics_"

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
#: sysexits.h EX_SOFTWARE: the worker stopped itself rather than risk a wrong total.
EXIT_FAIL_STOP: Final = 70


def bound_label(bound: float) -> str:
    """A bound of a histogram as OpenMetrics and Prometheus 3 write it, so that `le` is the same everywhere."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call] # the library has no types here
