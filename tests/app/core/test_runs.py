"""The run stage through its front door: batches in, outcomes and totals out."""

import json
import random

import pytest
from records import Log, event, lifecycle, result, stamp

from app.conventions import ADMISSIONS, GAP_HEADER, JOBS, POLICY_HEADER, REBASELINE_HEADER, RESULTS
from app.core import runs
from app.core.identity import fingerprint8
from app.core.outcomes import Addendum, Evidence
from app.core.results import stream_key
from app.core.runs import RunStage

GRACE = 60
DEADLINE = 3600


class Bench:
    """A stage and its logs, with a clock that moves by heartbeats a second apart."""

    def __init__(self, catalog, policy):
        self.stage = RunStage(catalog, policy, 4)
        self.log = Log()
        self.now = Log.START
        self.violations, self.evidence, self.dead_letters, self.charges = [], [], [], []
        self.beat(1)

    def apply(self, batch):
        outcomes = self.stage.apply(batch)
        self.violations += outcomes.violations
        self.evidence += outcomes.evidence
        self.dead_letters += outcomes.dead_letters
        spending = [charge for pack in outcomes.packs.values() for charge in pack.spending]
        self.charges += [(each.cost_center, each.runtime, each.microdollars / 1e6) for each in spending]
        return outcomes

    def jobs(self, *values, **more):
        return self.apply(self.log.batch(JOBS, values, self.now, **more))

    def results(self, *values, **more):
        return self.apply(self.log.batch(RESULTS, values, self.now, **more))

    def beat(self, seconds):
        for _ in range(seconds):
            self.now += 1
            for topic in RunStage.topics:
                self.apply(self.log.heartbeat(topic, self.now))

    def count(self, *key):
        return self.stage.counters[key]


@pytest.fixture
def bench(catalog, policy):
    return Bench(catalog, policy)


def test_a_run_that_lacks_nothing_closes_complete(bench):
    bench.jobs(*lifecycle())
    bench.results(result())
    bench.beat(8)
    (evidence,) = bench.evidence
    assert evidence.complete
    assert evidence.closed == "complete"
    assert len(evidence.fields) >= 20
    assert evidence.fields["cost_usd"] == 1.25
    assert evidence.fields["fidelity"]["shots"] == 100
    assert [name for name, _ in evidence.steps] == ["submitted", "admitted", "routed", "started", "completed"]
    assert bench.count("valid", "M1", "medium") == 1
    assert bench.count("bad", "M1", "medium") == 0
    assert not bench.stage.runs


def test_arrival_order_changes_nothing(catalog, policy):
    seen = set()
    for seed in range(20):
        bench = Bench(catalog, policy)
        arrivals = [(JOBS, value) for value in lifecycle()] + [(RESULTS, result())]
        random.Random(seed).shuffle(arrivals)
        for topic, value in arrivals:
            bench.apply(bench.log.batch(topic, [value], bench.now))
        bench.beat(8)
        (evidence,) = bench.evidence
        seen.add((evidence.evidence_id, repr(evidence.fields), repr(sorted(bench.stage.counters.items()))))
    assert len(seen) == 1


def test_repeats_are_counted_and_change_nothing(bench):
    bench.jobs(*lifecycle(), *lifecycle())
    bench.results(result(), result())
    bench.beat(8)
    bench.jobs(*lifecycle())
    bench.results(result())
    assert bench.count("duplicate", JOBS) == 14
    assert bench.count("duplicate", RESULTS) == 2
    assert bench.count("applied", JOBS) == 7
    assert len(bench.evidence) == 1
    assert bench.count("valid", "M3", "medium") == 1
    assert bench.count("spend", "logistics", "quantum") == 1_250_000


def test_a_missing_field_closes_the_run_incomplete_after_the_grace_and_says_why(bench):
    bench.jobs(*lifecycle(submitted={"inputs_digest": None}))
    bench.beat(GRACE - 2)
    assert not bench.evidence
    bench.beat(4)
    (evidence,) = bench.evidence
    assert not evidence.complete
    assert evidence.missing["inputs_digest"] == "not sent"
    assert evidence.missing["calibration_id"] == "no result arrived"
    assert bench.count("missing", "inputs_digest") == 1
    assert bench.count("bad", "M1", "medium") == 1


def test_a_field_the_provider_does_not_give_is_missing_for_that_reason(bench):
    bench.jobs(*lifecycle())
    bench.results(result(calibration_id=None, not_given={"calibration_id": "Braket does not say"}))
    bench.beat(GRACE + 5)
    assert bench.evidence[0].missing["calibration_id"] == "not given by the provider: Braket does not say"


def test_a_run_that_never_ends_is_abandoned_at_its_deadline(bench):
    bench.jobs(event("submitted", tier="low", deadline_seconds=100))
    bench.beat(98)
    assert not bench.evidence
    bench.beat(5)
    assert bench.evidence[0].closed == "abandoned"


def test_time_that_nobody_watched_closes_no_run(bench):
    bench.jobs(*lifecycle(submitted={"inputs_digest": None}))
    bench.now += 100_000
    bench.beat(10)
    assert not bench.evidence
    bench.beat(GRACE)
    assert len(bench.evidence) == 1


def test_no_run_closes_before_both_topics_have_reached_the_time(bench):
    bench.jobs(*lifecycle(submitted={"inputs_digest": None}))
    for second in range(200):
        bench.apply(bench.log.heartbeat(JOBS, bench.now + second))
    assert not bench.evidence


def test_illegal_transitions_are_counted_and_kept(bench):
    bench.jobs(event("submitted", tier="low"), event("completed", at=Log.START + 1))
    bench.beat(GRACE + 5)
    assert bench.evidence[0].illegal_transitions == [("submitted", "completed")]
    assert bench.count("illegal") == 1


def test_a_routing_to_an_unapproved_endpoint_is_a_violation_with_a_stable_id(catalog, policy):
    ids = set()
    for _ in range(2):
        bench = Bench(catalog, policy)
        bench.jobs(*lifecycle(submitted={"sensitivity": "pii"}, routed={"endpoint": "braket-us-west-1"}))
        rules = {violation.rule for violation in bench.violations}
        assert rules == {"approved_endpoint", "endpoint_contract", "third_party_consent", "tokenised_subject"}
        assert bench.violations[0].policy_revision == policy.revision
        assert bench.count("bad", "M5") == 1
        assert bench.count("bad", "M6", "ibm") == 1
        ids.add(tuple(violation.violation_id for violation in bench.violations))
    assert len(ids) == 1


def test_a_routing_before_its_submission_is_judged_when_the_submission_comes(bench):
    submitted, _, routed, *_ = lifecycle(submitted={"sensitivity": "confidential", "encrypted": False})
    bench.jobs(routed)
    assert not bench.violations
    assert bench.count("valid", "M5") == 0
    bench.jobs(submitted)
    assert [violation.rule for violation in bench.violations] == ["encrypted_sensitive"]


def test_a_routing_whose_submission_never_comes_is_denied(bench):
    bench.jobs(lifecycle()[2], event("completed"))
    bench.beat(GRACE + 5)
    unknown = {"approved_endpoint", "encrypted_sensitive", "known_workload", "consent_scope", "run_budget"}
    assert unknown <= {violation.rule for violation in bench.violations}
    assert bench.count("valid", "M5") == bench.count("bad", "M5") == 1


def test_what_went_on_without_being_routed_is_judged_when_it_ends(bench):
    submitted, *_ = lifecycle(submitted={"sensitivity": "confidential", "encrypted": False})
    bench.jobs(submitted, event("started"), event("completed"))
    assert not bench.violations
    bench.beat(GRACE + 5)
    assert [violation.rule for violation in bench.violations] == ["encrypted_sensitive"]
    assert bench.count("valid", "M5") == bench.count("bad", "M5") == 1


@pytest.mark.parametrize("last", ["rejected", "failed", None])
def test_what_never_went_on_is_not_judged(bench, last):
    submitted, *_ = lifecycle(submitted={"sensitivity": "confidential", "encrypted": False})
    bench.jobs(submitted, *([event(last)] if last else []))
    bench.beat(GRACE + 5)
    assert not bench.violations
    assert bench.count("valid", "M5") == 0


HIGH = {
    "workload": "credit-scoring",
    "purpose": "credit-decision",
    "tier": "high",
    "cost_center": "lending",
    "sensitivity": "regulated",
    "subject_token": "tok-1",
    "consent": {"granted": True, "scopes": ["credit-decision", "third-party-compute"]},
    "fallback": "classical",
    "shots": 1000,
}


def reviewed(at, reviewer="r-1"):
    return event("review", at=at, reviewer=reviewer, verdict="agreed")


@pytest.mark.parametrize(
    ("steps", "broken"),
    [
        ([reviewed(Log.START + 4.5)], set()),
        ([reviewed(Log.START + 5)], set()),
        ([reviewed(Log.START + 5.5)], {"human_review"}),
        ([], {"human_review"}),
        ([reviewed(Log.START + 4.5, reviewer=None)], {"human_review"}),
    ],
)
def test_a_high_tier_decision_is_reviewed_before_it_is_acted_on_by_the_time_of_the_events(bench, steps, broken):
    bench.jobs(*lifecycle(submitted=HIGH), *steps)
    bench.results(result(calibrated_at=stamp(Log.START - 3600)))
    bench.beat(GRACE + 5)
    assert {violation.rule for violation in bench.violations} == broken


def test_a_high_tier_decision_without_explanation_is_a_violation_unless_nobody_acts_on_it(bench):
    *before, decision, _ = lifecycle(submitted=HIGH)
    unexplained = {**decision, "explanation": None}
    bench.jobs(*before, {**unexplained, "acted_on": False})
    assert not bench.violations
    for number, acted in enumerate([True, None]):
        bench.jobs({**unexplained, "acted_on": acted, "event_id": f"d-{number}"})
        assert [violation.rule for violation in bench.violations] == ["explained"] * (number + 1)


@pytest.mark.parametrize(
    ("said", "broken"),
    [
        ({"provider": "aws-braket"}, {"signed_result"}),
        ({"provider": "aws-braket", "provenance": {}}, {"signed_result"}),
        ({}, {"signed_result"}),
        ({"provider": "aws-braket", "provenance": {"signature": "s"}}, set()),
    ],
)
def test_who_signs_its_results_signs_them_whether_it_is_named_or_not(bench, said, broken):
    braket = {"provider": "aws-braket", "endpoint": "braket-us-west-1", "region": "us-west-1", "backend": "braket_dm"}
    bench.jobs(*lifecycle(routed=braket))
    bench.results(result(calibrated_at=stamp(Log.START - 3600), **said))
    bench.beat(GRACE + 5)
    assert {violation.rule for violation in bench.violations} == broken


@pytest.mark.parametrize(("hours", "broken"), [(47.5, set()), (48.5, {"calibration_age"})])
def test_results_on_old_parameters_are_a_violation(bench, hours, broken):
    bench.jobs(*lifecycle(submitted=HIGH), reviewed(Log.START))
    bench.results(result(calibrated_at=stamp(Log.START + 4 - hours * 3600)))
    bench.beat(GRACE + 5)
    assert {violation.rule for violation in bench.violations} == broken


@pytest.mark.parametrize(
    ("kind", "field", "text", "found"),
    [
        ("submitted", "submitter", "ada@example.org", "an email address"),
        ("submitted", "subject_token", "4111 1111 1111 1111", "a card number"),
        ("submitted", "feature", "ssn 078-05-1120", "a national id"),
        ("failed", "error", "no such user: ada@example.org", "an email address"),
        ("fell_back", "reason", "card 5500005555555559 refused", "a card number"),
        ("rejected", "reasons", ["budget", "ask bob@example.com"], "an email address"),
        ("review", "reviewer", "carol@example.com", "an email address"),
        ("submitted", "subject_token", "4111 1111 1111 1112", None),  # the check digit is wrong
        ("submitted", "subject_token", "tok-1790000000000000", None),
        ("submitted", "inputs_digest", "sha256:4111111111111111", None),
        ("failed", "error", "timed out @ 3 s", None),
    ],
)
def test_personal_data_in_clear_is_a_violation_which_does_not_repeat_it(bench, kind, field, text, found):
    bench.jobs(event(kind, **{field: text}))
    reasons = [violation.reason for violation in bench.violations if violation.rule == "no_clear_pii"]
    assert reasons == ([f"{field} holds what looks like {found}"] if found else [])
    assert len(bench.violations) == len(reasons)


def test_a_second_unauthorized_routing_turns_the_run_bad_once(bench):
    first = lifecycle()
    bench.jobs(*first[:3])
    again = {**first[2], "event_id": "routed-2", "endpoint": "nowhere"}
    bench.jobs(again, {**again, "event_id": "routed-3"})
    assert bench.count("valid", "M5") == 1
    assert bench.count("bad", "M5") == 1
    assert bench.count("valid", "M6", "ibm") == 3
    assert bench.count("bad", "M6", "ibm") == 2


def answered(bench, run_id, answer):
    """What the gate put on record about a run."""
    return bench.apply(bench.log.batch(ADMISSIONS, [{"run_id": run_id, "answer": answer, "more": 1}], bench.now))


def test_an_answer_about_a_run_that_never_comes_is_forgotten_after_a_day(bench):
    answered(bench, "run-never", "deny")
    bench.beat(3)
    assert len(bench.stage._answers.snapshot()) == 1
    assert not bench.stage.runs, "it opens no run"
    for clock in bench.stage.clocks.values():
        clock.watched += 86_400
    bench.beat(2)
    assert bench.stage._answers.snapshot() == {}


@pytest.mark.parametrize(
    ("topic", "header"),
    [(RESULTS, POLICY_HEADER), (RESULTS, GAP_HEADER), (JOBS, REBASELINE_HEADER), (ADMISSIONS, POLICY_HEADER)],
)
def test_a_record_of_our_own_in_the_wrong_topic_is_not_lost(bench, topic, header):
    value = json.dumps(result()).encode()
    (letter,) = bench.apply(bench.log.batch(topic, [value], bench.now, ((header, b"x"),))).dead_letters
    assert (letter.reason.value, letter.record.value) == ("unknown_type", value)


@pytest.mark.parametrize(
    "value",
    [
        b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b"",
        b"{",
        b"{}",
        b'{"run_id": "r", "answer": "perhaps"}',
        None,
    ],
)
def test_what_is_no_record_of_the_gate_is_dead_lettered(bench, value):
    (letter,) = bench.apply(bench.log.batch(ADMISSIONS, [value], bench.now)).dead_letters
    assert (letter.topic, letter.reason.value) == ("admissions", "malformed_json")


def test_a_decision_without_a_good_explanation_counts_against_m3(bench):
    decision = lifecycle()[5]
    bench.jobs(lifecycle()[0], {**decision, "explanation": None})
    bench.jobs({**decision, "event_id": "d2", "explanation": {**decision["explanation"], "score": 0.59}})
    bench.jobs({**decision, "event_id": "d3", "explanation": {**decision["explanation"], "score": 0.6}})
    assert bench.count("valid", "M3", "medium") == 3
    assert bench.count("bad", "M3", "medium") == 2


def test_events_of_a_run_closed_incomplete_are_late_and_still_judged(bench):
    *most, cost = lifecycle()
    bench.jobs(*most)
    bench.beat(GRACE + 5)
    assert len(bench.evidence) == 1
    bench.jobs(cost)
    assert bench.count("late", JOBS) == 1
    assert bench.count("spend", "logistics", "quantum") == 1_250_000


def test_an_event_of_a_forgotten_run_is_dead_lettered_not_counted_again(bench, catalog):
    bench.jobs(*lifecycle())
    bench.results(result())
    bench.beat(int(catalog.closed_retention_seconds) + 30)
    bench.jobs(*lifecycle())
    assert {letter.reason.value for letter in bench.dead_letters} == {"too_late"}
    assert bench.count("valid", "M1", "medium") == 1


def test_a_charge_of_a_forgotten_run_counts_once_whenever_it_comes(bench, catalog):
    """Bills come hours late, are corrected, and are sent again."""
    *most, cost = lifecycle()
    bench.jobs(*most, cost)
    bench.results(result())
    bench.beat(int(catalog.closed_retention_seconds) + 30)
    before = bench.count("spend", "logistics", "quantum")
    assert before == 1_250_000
    for _ in range(2):
        bench.jobs(cost)
        bench.jobs({**cost, "event_id": "late", "amount_usd": 2.0}, {**cost, "event_id": "refund", "amount_usd": -0.5})
        bench.beat(1_000)
    assert bench.count("spend", "logistics", "quantum") == before + 2_000_000
    assert bench.count("refund", "logistics", "quantum") == 500_000
    assert bench.charges == [("logistics", "quantum", amount) for amount in (1.25, 2.0, -0.5)]
    assert bench.count("duplicate", JOBS) == 4
    assert bench.count("late", JOBS) == 2
    assert bench.dead_letters == []
    assert list(map(type, bench.evidence)) == [Evidence, Addendum, Addendum]
    bench.stage.restore(bench.stage.snapshot())
    bench.jobs({**cost, "event_id": "late", "amount_usd": 2.0}, {**cost, "event_id": "later", "amount_usd": 4.0})
    assert bench.count("spend", "logistics", "quantum") == before + 6_000_000
    assert (bench.count("valid", "M5"), bench.count("bad", "M5")) == (1, 0)


def test_who_pays_for_a_forgotten_run_that_declared_nothing_is_not_known(bench, catalog):
    bench.jobs(event("completed"))
    bench.beat(int(catalog.closed_retention_seconds + catalog.deadline_seconds) + 30)
    bench.jobs(event("cost", amount_usd=2.0))
    assert sum(value for key, value in bench.stage.counters.items() if key[0] == "spend") == 2_000_000
    assert bench.charges == []


def test_an_event_dated_far_ahead_of_its_record_is_dead_lettered(bench):
    bench.jobs(event("submitted", at=bench.now + 1000))
    assert [letter.reason.value for letter in bench.dead_letters] == ["time_out_of_range"]


def test_bad_input_is_dead_lettered_and_the_rest_of_the_batch_goes_on(bench):
    first, *rest = lifecycle()
    bench.jobs(first, b"{", None, *rest)
    assert [letter.reason.value for letter in bench.dead_letters] == ["malformed_json", "null_value"]
    assert bench.dead_letters[0].record.value == b"{"
    assert bench.count("applied", JOBS) == 7


def test_a_later_event_that_says_less_does_not_leave_a_run_complete(bench):
    bench.jobs(*lifecycle(), {**event("routed", at=Log.START + 3), "event_id": "again", "provider": "ibm"})
    bench.results(result())
    bench.beat(GRACE + 5)
    (evidence,) = bench.evidence
    assert not evidence.complete
    assert evidence.missing["endpoint"] == "not sent"
    assert bench.count("missing", "endpoint") == 1


def test_money_spent_before_the_submission_arrives_is_forwarded_under_the_offset_that_made_it_known(bench):
    submitted, *_, cost = lifecycle()
    bench.jobs(cost)
    outcomes = bench.jobs(submitted)
    (pack,) = [pack for pack in outcomes.packs.values() if pack.spending]
    (spending,) = pack.spending
    assert pack.first <= spending.offset < pack.next


def test_a_decision_and_a_routing_before_the_submission_are_handed_on_in_its_place(bench):
    submitted, _, routed, _, _, decision, _ = lifecycle(routed={"endpoint": "nowhere"})
    bench.jobs(routed, decision)
    outcomes = bench.jobs(submitted)
    packs = list(outcomes.packs.values())
    (unauthorized,) = [each for pack in packs for each in pack.unauthorized]
    (observation,) = [each for pack in packs for found in pack.observations.values() for each in found]
    assert packs[0].first <= unauthorized.offset < packs[0].next
    assert packs[0].first <= observation.offset < packs[0].next
    (violation,) = bench.violations
    again = Bench(bench.stage._catalog, bench.stage.policy)
    again.jobs(routed, decision, submitted)
    assert again.violations == [violation], "a violation keeps the place of its routing, however the log is cut"


def test_a_decision_and_a_charge_are_handed_on_to_the_streams_of_the_workload_on_any_backend(bench):
    outcomes = bench.jobs(*lifecycle(submitted={"workload": "credit-scoring", "canary": True}))
    (pack,) = [pack for pack in outcomes.packs.values() if pack.observations]
    ((key, (decision, charge)),) = pack.observations.items()
    assert key == stream_key("credit-scoring", "any")
    assert (decision.outcome, decision.decision, decision.explanation_score) == ("approve", 1.0, 0.9)
    assert (charge.cost_usd, charge.decision, charge.canary) == (1.25, None, "canary")
    assert pack.first <= decision.offset < charge.offset < pack.next


def test_a_refund_is_counted_apart_so_that_no_counter_falls(bench):
    submitted, *_, cost = lifecycle()
    bench.jobs(submitted, cost, {**cost, "event_id": "refund", "amount_usd": -0.25})
    assert bench.count("spend", "logistics", "quantum") == 1_250_000
    assert bench.count("refund", "logistics", "quantum") == 250_000


def test_an_event_dated_ahead_is_refused_whether_or_not_its_run_is_open(bench):
    bench.jobs(lifecycle()[0])
    bench.results(result(at=bench.now + 1000))
    assert [letter.reason.value for letter in bench.dead_letters] == ["time_out_of_range"]


def test_further_ends_do_not_keep_a_run_open(bench):
    bench.jobs(event("submitted", tier="low"), event("failed"))
    for number in range(10):
        bench.beat(GRACE // 4)
        bench.jobs({**event("timed_out"), "event_id": f"again-{number}"})
    assert sum(isinstance(evidence, Evidence) for evidence in bench.evidence) == 1


def test_what_comes_after_a_run_closed_is_added_to_its_evidence_as_it_came(bench):
    *most, cost = lifecycle()
    bench.jobs(*most)
    bench.beat(GRACE + 5)
    bench.jobs(cost)
    bench.results(result())
    bench.jobs(cost)
    _, late_cost, late_result = bench.evidence
    assert (late_cost.run_id, json.loads(bytes(late_cost.event))) == ("run-1", cost)
    assert (late_result.topic, json.loads(bytes(late_result.event))) == (RESULTS, result())
    assert late_cost.evidence_id != late_result.evidence_id


def test_a_run_takes_so_many_events_and_no_more(bench, monkeypatch):
    monkeypatch.setattr(runs, "MAX_EVENTS", 5)
    bench.jobs(*({**event("started"), "event_id": f"again-{number}"} for number in range(8)))
    assert bench.count("applied", JOBS) == 5
    assert [letter.reason.value for letter in bench.dead_letters] == ["run_full"] * 3


def test_a_field_whose_event_was_lost_is_missing_for_that_reason(bench):
    bench.jobs(*lifecycle())
    bench.apply(bench.log.batch(JOBS, [b"{}"], bench.now, ((GAP_HEADER, b"test"),)))
    bench.jobs(*({**value, "producer": "other"} for value in lifecycle("run-2")))
    bench.beat(GRACE + 5)
    lost, other = bench.evidence
    assert lost.missing["calibration_id"].startswith("lost: no result arrived, and there is a gap")
    assert other.missing["calibration_id"] == "no result arrived"
    assert bench.count("applied", JOBS) == 14


def test_a_clock_that_was_far_ahead_does_not_stop_time(bench):
    for topic in RunStage.topics:
        bench.apply(bench.log.heartbeat(topic, Log.START + 10**9))
    bench.jobs(*lifecycle())
    bench.beat(GRACE + 5)
    assert len(bench.evidence) == 1


def test_labels_come_from_the_catalog(bench):
    bench.jobs(*lifecycle(submitted={"cost_center": "made-up"}, routed={"provider": "made-up"}))
    assert bench.count("spend", "other", "quantum") == 1_250_000
    assert bench.count("valid", "M6", "other") == 1


def test_trace_context_of_a_record_ends_up_in_the_evidence(bench):
    header = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    bench.jobs(*lifecycle(), headers=(header,))
    bench.results(result())
    bench.beat(8)
    assert bench.evidence[0].fields["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_cut_anywhere_and_restored_the_stage_goes_on_as_if_nothing_had_been(catalog, policy):
    values = [value for number in range(30) for value in lifecycle(f"run-{number}", submitted={"seed": number})]
    random.Random(3).shuffle(values)
    whole = Bench(catalog, policy)
    cut = Bench(catalog, policy)
    for position, value in enumerate(values):
        for bench in (whole, cut):
            bench.jobs(value)
            if position % 3 == 0:
                bench.results(result(f"run-{position // 3 % 30}"))
            if position % 10 == 0:
                bench.beat(2)
        if position % 7 == 0:
            restored = RunStage(catalog, policy, 4)
            restored.restore(cut.stage.snapshot())
            cut.stage = restored
    for bench in (whole, cut):
        bench.beat(GRACE + 5)
    assert whole.stage.counters == cut.stage.counters
    assert whole.evidence == cut.evidence
    assert whole.stage.snapshot() == cut.stage.snapshot()


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"garbage"])
def test_a_damaged_snapshot_is_refused(catalog, policy, damage):
    with pytest.raises(ValueError, match="damaged"):
        RunStage(catalog, policy, 4).restore(damage)


def test_a_snapshot_of_another_version_is_refused(catalog, policy, monkeypatch):
    stage = RunStage(catalog, policy, 4)
    monkeypatch.setattr("app.core.runs.VERSION", 99)
    newer = stage.snapshot()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="version 99"):
        stage.restore(newer)


def test_rules_that_a_run_breaks_are_handed_on_with_the_mark_of_their_violation(bench):
    found = bench.jobs(*lifecycle("run-bad", routed={"endpoint": "nowhere"}))
    broken = [each for pack in found.packs.values() for each in pack.broken]
    assert {each.rule for each in broken} == {violation.rule for violation in found.violations}
    assert {each.id for each in broken} == {fingerprint8(violation.violation_id) for violation in found.violations}
    assert {each.run_id for each in broken} == {"run-bad"}
