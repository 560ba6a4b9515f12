"""Spans of a run, held to a run worked out by hand."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from records import Log, event, lifecycle, result

from app.conventions import JOBS, RESULTS
from app.core import spans
from app.core.outcomes import Evidence
from app.core.runs import RunStage
from app.core.spans import Sampler
from app.core.trace import RUN, span_id

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = ("traceparent", f"00-{TRACE}-{PARENT}-01".encode())


def closed(catalog, policy, jobs, results=(), headers=()):
    """The evidence of the runs in a log, once all are closed."""
    stage, log = RunStage(catalog, policy, 4), Log()
    stage.apply(log.heartbeat(JOBS, Log.START))
    found = stage.apply(log.batch(JOBS, jobs, headers=headers))
    stage.apply(log.batch(RESULTS, list(results), headers=headers))
    return found.violations, [each for each in stage.finish().evidence if isinstance(each, Evidence)]


def test_a_run_is_a_span_with_one_a_state_and_its_decision(catalog, policy):
    _, (evidence,) = closed(catalog, policy, lifecycle(), [result()], (HEADER,))
    found = {span.name: span for span in spans.of_run(evidence)}
    assert list(found) == ["run", "submitted", "admitted", "routed", "started", "completed", "decision"]
    start = Log.START
    times = {name: (span.began_at - start, span.ended_at - start) for name, span in found.items()}
    assert times == {
        "run": (0, 5),
        "submitted": (0, 1),
        "admitted": (1, 2),
        "routed": (2, 3),
        "started": (3, 4),
        "completed": (4, 4),
        "decision": (5, 5),
    }
    assert {span.trace_id for span in found.values()} == {TRACE}
    assert found["run"].parent_id == PARENT
    assert {span.parent_id for name, span in found.items() if name != "run"} == {found["run"].span_id}
    assert len({span.span_id for span in found.values()}) == len(found)
    of = found["run"].attributes
    assert of["qethics.run_id"] == "run-1"
    assert of["qethics.verdict"] == "allow"
    assert of["qethics.complete"] is True
    assert of["qethics.fidelity"] == evidence.fields["fidelity"]["value"]
    assert found["decision"].attributes["qethics.outcome"] == "approve"
    assert found["decision"].attributes["qethics.explanation_score"] == 0.9
    assert not any(span.failed for span in found.values())


def test_nothing_of_a_person_is_in_a_span(catalog, policy):
    jobs = lifecycle(submitted={"subject_token": "tok-77", "submitter": "jane@example.org"})
    _, (evidence,) = closed(catalog, policy, jobs)
    text = repr(list(spans.of_run(evidence)))
    assert "tok-77" not in text
    assert "jane" not in text


def test_a_run_that_broke_a_rule_has_failed_and_its_violation_hangs_below_it(catalog, policy):
    violations, (evidence,) = closed(catalog, policy, lifecycle(routed={"endpoint": "nowhere"}), headers=(HEADER,))
    run = next(spans.of_run(evidence))
    assert run.failed
    assert run.attributes["qethics.verdict"] == "deny"
    assert spans.is_grave(evidence)
    broken = [spans.of_violation(each) for each in violations]
    assert broken
    assert {(each.trace_id, each.parent_id) for each in broken} == {(TRACE, span_id("run-1", RUN))}
    assert broken[0].attributes["qethics.rule"] == violations[0].rule


def test_a_run_without_a_trace_gets_one_that_follows_from_its_id(catalog, policy):
    _, (evidence,) = closed(catalog, policy, lifecycle("run-x"))
    found = list(spans.of_run(evidence))
    assert {span.trace_id for span in found} == {spans.derived_trace_id("run-x")}
    assert found[0].parent_id is None
    assert found == list(spans.of_run(evidence))


def test_a_run_of_which_only_results_came_has_no_time_and_no_span(catalog, policy):
    _, (evidence,) = closed(catalog, policy, [], [result("run-r")])
    assert list(spans.of_run(evidence)) == []


def test_a_run_that_timed_out_says_so(catalog, policy):
    jobs = [event("submitted", "run-t"), event("timed_out", "run-t", at=Log.START + 9, error="e")]
    _, (evidence,) = closed(catalog, policy, jobs)
    found = {span.name: span for span in spans.of_run(evidence)}
    assert found["run"].failed
    assert found["timed_out"].failed
    assert found["submitted"].ended_at - found["submitted"].began_at == 9


@given(st.floats(0, 1), st.integers(0, 2**128 - 1))
def test_sampling_keeps_what_opentelemetrys_own_sampler_keeps(ratio, trace):
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace, "run").decision.is_sampled()
    ours = Sampler(ratio, 1.0).wants(f"{trace:032x}", recorded=False, grave=False, now=0.0)
    assert ours == theirs


def test_no_more_than_so_many_a_second_are_traced_and_the_grave_ones_count_apart():
    sampler = Sampler(1.0, 10.0)

    def wanted(grave, now):
        return sum(sampler.wants("f" * 32, recorded=False, grave=grave, now=now) for _ in range(100))

    assert wanted(False, 0.0) == 10
    assert wanted(True, 0.0) == 10
    assert wanted(False, 0.5) == 5
    assert wanted(False, 100.0) == 10


def test_what_producers_recorded_and_what_is_grave_is_kept_at_ratio_0():
    sampler = Sampler(0.0, 1.0)
    assert not sampler.wants("0" * 32, recorded=False, grave=False, now=0.0)
    assert sampler.wants("f" * 32, recorded=True, grave=False, now=0.0)
    assert sampler.wants("f" * 32, recorded=False, grave=True, now=0.0)
