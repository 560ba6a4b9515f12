"""Every topic, metric and alert name that leaves the process, spelled once."""

from typing import Final

TOPIC_PREFIX: Final = "qethics."

JOBS: Final = "jobs"
RESULTS: Final = "results"
SAMPLES: Final = "samples"
CHECKPOINTS: Final = "checkpoints"
VIOLATIONS: Final = "violations"
EVIDENCE: Final = "evidence"
ALERTS: Final = "alerts"
DEAD_LETTER: Final = "dead-letter"

#: Topics that carry the partition count of the whole deployment. Inputs and what is derived from them share one
#: count, so that partition p of one is partition p of all (see `docs/architecture.md`, "Partitions").
TOPICS: Final = (JOBS, RESULTS, SAMPLES, CHECKPOINTS, VIOLATIONS, EVIDENCE, ALERTS, DEAD_LETTER)

#: Records with these headers are our own and no events (`app.core.records.control`): one moves the clock of its
#: partition, the other tells the runs that events of the producer it names were lost.
HEARTBEAT_HEADER: Final = "qethics-heartbeat"
GAP_HEADER: Final = "qethics-gap"

DRIFT_ALERT: Final = "FidelityDrift"
PROVENANCE_GAP_ALERT: Final = "ProvenanceGap"

METRIC_PREFIX: Final = "qethics_"

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
#: sysexits.h EX_SOFTWARE: the worker stopped itself rather than risk a wrong total.
EXIT_FAIL_STOP: Final = 70
