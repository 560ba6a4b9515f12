"""The service level indicators: one table. Valid and bad events are counted in the state of the stages.

Good is valid less bad. Bad is what is counted, because a run can turn bad after it was good (a second, unauthorized
routing) and a counter must never fall.

To add an indicator or another counter, add its row here and count it in the stage that its row names; the metrics, the
status page and the summary follow from the table.
"""

from typing import Final, NamedTuple

#: The stages, by the names that checkpoints and metrics have for them.
RUNS: Final = "runs"
STREAMS: Final = "streams"


class Sli(NamedTuple):
    """An indicator: its number, its metric stem, what splits it and what it says."""

    id: str
    name: str
    labels: tuple[str, ...]
    text: str
    #: Why there is no figure, while nothing feeds the indicator yet.
    no_source: str | None = None
    #: The stages that count it.
    stages: tuple[str, ...] = (RUNS,)


SLIS: Final = (
    Sli("M1", "provenance_completeness", ("tier",), "closed runs with every field their tier requires"),
    Sli("M2", "reproducibility", ("workload",), "replays statistically equivalent to the original", stages=(STREAMS,)),
    Sli("M3", "explainability_coverage", ("tier",), "decisions explained well enough for their workload"),
    Sli(
        "M4",
        "fidelity_variance",
        ("workload", "backend"),
        "windows whose fidelity varies no more than the limit",
        stages=(STREAMS,),
    ),
    Sli("M5", "policy_conformance", (), "evaluated runs without a violation"),
    Sli("M6", "authorized_routing", ("provider",), "routings to an endpoint approved for the run"),
    Sli(
        "M7",
        "audit_retention",
        ("store",),
        "archive entries written, locked and re-read",
        "no source yet: this version writes evidence to its topic, not to an archive",
    ),
    Sli(
        "M8",
        "incident_resolution",
        ("severity",),
        "incidents resolved within four hours",
        "incidents are kept by the pager: `qethics incident stats`",
    ),
    Sli("M9", "spend_within_budget", ("cost_center", "runtime"), "hours of spending within the hourly budget"),
    Sli("M10", "drift_quiet", ("signal",), "observations that raised no drift alert", stages=(STREAMS,)),
)

#: A key of the counters: what is counted, then its label values.
Key = tuple[str, ...]


class Counters(dict[Key, int]):
    """Integers by key; part of a stage's state, so exactly as durable as the rest of it."""

    def __missing__(self, key: Key) -> int:
        return 0

    def judge(self, sli: str, good: bool, *labels: str) -> None:
        """Count one valid event of an indicator, and whether it was good."""
        valid, bad = ("valid", sli, *labels), ("bad", sli, *labels)
        if valid not in self:
            self[bad] = 0  # a series that begins at 1 shows no increase, so the first bad one would not be seen
        self[valid] += 1
        if not good:
            self[bad] += 1


class CounterMetric(NamedTuple):
    """A counter that is no indicator: its key, its metric stem, its labels and what it says.

    One that several stages count has the label `stage` as well, so that no figure hides another.
    """

    key: str
    name: str
    labels: tuple[str, ...]
    text: str
    #: The stages that count it.
    stages: tuple[str, ...] = (RUNS,)


COUNTERS: Final = (
    CounterMetric("applied", "events_applied", ("topic",), "events taken in, once each"),
    CounterMetric("duplicate", "duplicates", ("topic",), "repeats recognised by event_id and set aside"),
    CounterMetric("rejected", "dead_letters", ("reason",), "records sent to the dead-letter topic", (RUNS, STREAMS)),
    CounterMetric(
        "implausible",
        "sequence_numbers_implausible",
        (),
        "sequence numbers left out: far from all others",
        (STREAMS,),
    ),
    CounterMetric("late", "late_events", ("topic",), "events of a run that had already closed"),
    CounterMetric("answer", "gate_answers", ("answer",), "answers of the gate that were read"),
    CounterMetric("policy", "policy_bundles", ("outcome",), "bundles in the log, put in force or refused"),
    CounterMetric("illegal", "illegal_transitions", (), "state changes that the transition table does not have"),
    CounterMetric("missing", "evidence_missing", ("field",), "closed runs in which a required field was missing"),
    CounterMetric("closed", "runs_closed", ("how",), "runs closed: complete, incomplete or abandoned"),
    CounterMetric(
        "violation",
        "policy_violations",
        ("rule", "severity"),
        "enforced rules broken, by the one partition of `samples` that a rule belongs to",
        stages=(STREAMS,),
    ),
    CounterMetric(
        "tolerated",
        "policy_violations_tolerated",
        ("rule", "mode"),
        "rules broken that deny nothing: warn, dry_run, exempt",
    ),
    CounterMetric("ended", "runs_ended", ("state",), "runs by the first end that they came to"),
    CounterMetric(
        "directive", "directives", ("directive", "act"), "orders of the streams, issued and lifted", stages=(STREAMS,)
    ),
    CounterMetric(
        "recalibrated", "recalibrations", ("backend",), "changes of a stream's calibration", stages=(STREAMS,)
    ),
    CounterMetric("fallback", "fallbacks", (), "runs that fell back to a classical path"),
    CounterMetric("review", "reviews", (), "human reviews"),
    CounterMetric(
        "calibrated",
        "results_by_calibration",
        ("age",),
        "results on parameters younger than 48 h, older, or undated",
    ),
    CounterMetric("no_ideal", "results_without_ideal", (), "results whose ideal distribution is unknown"),
    CounterMetric("spend", "spend_microdollars", ("cost_center", "runtime"), "charges, in millionths of a dollar"),
    CounterMetric("refund", "refund_microdollars", ("cost_center", "runtime"), "money given back, in the same unit"),
    CounterMetric("late_spend", "late_spend", (), "charges for an hour that can change no more", stages=(STREAMS,)),
    CounterMetric(
        "observed", "observations", ("signal",), "observations taken in by the stream stage", stages=(STREAMS,)
    ),
    CounterMetric("drift", "drift_alerts", ("signal",), "drift alerts raised", stages=(STREAMS,)),
    CounterMetric(
        "replay", "replays", ("answer",), "replays compared: matched, not_matched or underpowered", stages=(STREAMS,)
    ),
    CounterMetric(
        "lost", "events_lost", (), "sequence numbers that never arrived: gaps by producer", stages=(STREAMS,)
    ),
    CounterMetric(
        "recovered",
        "events_recovered",
        (),
        "sequence numbers that arrived after being declared lost",
        stages=(STREAMS,),
    ),
    CounterMetric(
        "unwatched", "events_unwatched", (), "events of producers beyond those watched for gaps", stages=(STREAMS,)
    ),
    CounterMetric(
        "drift_resolved",
        "drift_resolved",
        ("signal",),
        "drift alerts that ended: back at the baseline, cool-down over, or a new baseline",
        stages=(STREAMS,),
    ),
    CounterMetric(
        "refused",
        "observations_refused",
        ("signal",),
        "values not finite or not possible for the signal",
        stages=(STREAMS,),
    ),
    CounterMetric(
        "canary",
        "canary_verdicts",
        ("verdict",),
        "verdicts on canary releases: better, worse, equal; of decisions that they differ",
        stages=(STREAMS,),
    ),
    CounterMetric("rebaselined", "rebaselined", ("signal",), "baselines changed on request", stages=(STREAMS,)),
)
