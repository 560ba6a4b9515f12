"""The tracer, with a real receiver of OTLP."""

import time

import pytest
from otlp import attributes, receiving
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from records import Log, lifecycle, result

from app.conventions import JOBS, RESULTS
from app.core.identity import bucket
from app.core.outcomes import Outcomes
from app.core.runs import RunStage
from app.core.trace import RUN, span_id
from app.settings import load
from app.sinks.metrics import StageCollector
from app.stream.protocol import Batch
from app.tracing import tracer

BATCH = Batch("qethics.jobs", 2, 100, 103, (None, None, None))


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


def outcomes(catalog, policy, count=1, **fields):
    """What follows from some runs that were sent where they may not go."""
    stage, log = RunStage(catalog, policy, 4), Log()
    stage.apply(log.heartbeat(JOBS, Log.START))
    jobs = [each for number in range(count) for each in lifecycle(f"run-{number}", **fields)]
    results = [result(f"run-{number}") for number in range(count)]
    found = stage.apply(log.batch(JOBS, jobs))
    stage.apply(log.batch(RESULTS, results))
    return Outcomes(violations=found.violations, evidence=stage.finish().evidence)


def traced(url, **settings):
    return tracer(load({}, otlp_endpoint=f"{url}/v1/traces", **settings), "host:1", "1.0")


def test_without_an_endpoint_there_is_no_tracer():
    assert tracer(load({}), "host:1", "1.0") is None


def test_runs_and_our_own_steps_arrive_with_run_id_fidelity_and_verdict(catalog, policy, receiver):
    told, url = receiver
    found = traced(url, trace_ratio=1.0)
    found.batch(BATCH, outcomes(catalog, policy, routed={"endpoint": "nowhere"}), 10.0, 10.5, 10.75)
    found.checkpoint("runs", 2, 1000, 11.0, 11.5)
    found.close()
    assert told.services == {"qethics"}
    (run,), (process,), (apply,) = told.named("run"), told.named("process qethics.jobs"), told.named("apply")
    of = attributes(run)
    assert of["qethics.run_id"] == "run-0"
    assert of["qethics.verdict"] == "deny"
    assert 0.9 < of["qethics.fidelity"] < 1
    assert run.span_id.hex() == span_id("run-0", RUN)
    assert [link.span_id for link in process.links] == [run.span_id]
    assert attributes(process)["messaging.batch.message_count"] == 3
    assert apply.parent_span_id == process.span_id
    assert apply.end_time_unix_nano - apply.start_time_unix_nano == 500_000_000
    assert {each.parent_span_id for each in told.named("violation")} == {run.span_id}
    assert attributes(told.named("checkpoint")[0])["qethics.state_bytes"] == 1000
    assert found.counts["offered"] == found.counts["exported"] == len(told.spans)


def test_a_collector_that_fails_is_counted_and_holds_up_nothing(catalog, policy, receiver):
    told, url = receiver
    told.status = 400
    found = traced(url, trace_ratio=1.0)
    began = time.monotonic()
    for _ in range(5):
        found.batch(BATCH, outcomes(catalog, policy), 10.0, 10.5, 10.75)
    found.close()
    assert time.monotonic() - began < 10
    assert found.counts["failed"] == found.counts["offered"] > 0
    assert found.counts["exported"] == 0


def test_a_systemic_failure_is_traced_so_many_a_second_and_the_rest_is_counted(catalog, policy, receiver):
    told, url = receiver
    found = traced(url, trace_ratio=0.0, trace_runs_per_second=5.0)
    found.batch(BATCH, outcomes(catalog, policy, 50, routed={"endpoint": "nowhere"}), 10.0, 10.5, 10.75)
    found.close()
    assert len(told.named("run")) == 5
    assert found.left_out == 45


def test_a_figure_leads_to_a_trace_by_its_exemplar(catalog, policy, receiver):
    from collecting import Publisher, Shell  # noqa: PLC0415 - it imports the composition root

    told, url = receiver
    found = traced(url, trace_ratio=1.0)
    shell = Shell(catalog, policy)
    said = outcomes(catalog, policy, routed={"endpoint": "nowhere"})
    found.batch(BATCH, said, 10.0, 10.5, 10.75)
    found.close()
    registry = CollectorRegistry()
    registry.register(StageCollector(shell, Publisher(), lambda: {}, catalog, {"version": "1"}, found))
    families = {each.name: each for each in text_string_to_metric_families(generate_latest(registry).decode())}
    trace = told.named("run")[0].trace_id.hex()
    marked = [
        (sample.labels["le"], sample.exemplar)
        for sample in families["qethics_fidelity_ratio"].samples
        if sample.exemplar is not None
    ]
    assert [(le, exemplar.labels) for le, exemplar in marked] == [("1.0", {"trace_id": trace, "run_id": "run-0"})]
    assert 0.975 < marked[0][1].value <= 1
    rules = {
        sample.labels["rule"]: sample.labels["partition"]
        for sample in families["qethics_policy_violations"].samples
        if sample.exemplar is not None and sample.exemplar.labels["trace_id"] == trace
    }
    broken = {violation.rule for violation in said.violations if violation.mode == "enforce"}
    assert rules == {rule: str(bucket(rule, 4)) for rule in broken}
