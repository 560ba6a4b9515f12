"""A run against the gate: every short path of the table, and the stage that judges by it."""

import random
from itertools import product

import msgspec
import pytest
from records import ROUTED, SUBMITTED, Log, event, lifecycle, result

from app.conventions import ADMISSIONS, JOBS, RESULTS
from app.core import admission
from app.core.admission import AdmissionRequest
from app.core.obedience import Given, Sent, findings, packed, unpacked
from app.core.policy import Policy
from app.core.runs import RunStage
from app.policy.inline import Inline
from app.policy.pack import load_pack

RUN, OTHER, HERE, THERE = b"the run.", b"another.", b"routing1", b"routing2"
STEPS = (
    *[(answer, run, HERE) for answer in ("allow", "fallback_classical", "deny") for run in (RUN, OTHER)],
    ("routed", "quantum", HERE),
    ("routed", "quantum", THERE),
    ("routed", "classical", HERE),
    ("routed", None, HERE),
)
SLACK = 10.0


STRICTER = {
    ("unasked", "allow"): "allowed",
    ("allowed", "allow"): "allowed",
    ("classical", "allow"): "classical",
    ("denied", "allow"): "denied",
    ("unasked", "fallback_classical"): "classical",
    ("allowed", "fallback_classical"): "classical",
    ("classical", "fallback_classical"): "classical",
    ("denied", "fallback_classical"): "denied",
}


def stepped(path):
    """The table, walked step by step: state, what was allowed so far, and what was found wrong."""
    state, allowed, wrong, asked = "unasked", [], set(), any(step[0] != "routed" for step in path)
    for name, one, other in path:
        if name == "deny":
            state = "denied"
        elif name != "routed":
            state = STRICTER[state, name]
            allowed.append((name, one, other))
        elif state == "unasked":
            wrong.add("asked_late" if asked else "unasked")
        elif state == "denied":
            wrong.add("denied")
        elif state == "classical":
            if one != "classical":
                wrong.add("not_classical")
            elif not any((answer, run) == ("fallback_classical", RUN) for answer, run, _ in allowed):
                wrong.add("other_facts")
        elif ("allow", RUN, other) not in allowed:
            wrong.add("other_facts")
    return wrong


@pytest.mark.parametrize("length", range(1, 6))
def test_every_short_path_is_judged_by_the_table(length):
    rng = random.Random(length)
    for path in product(STEPS, repeat=length):
        given, sent = [], []
        for place, (name, one, other) in enumerate(path):
            at = Log.START + SLACK * place
            if name == "routed":
                sent.append(Sent(at, one, other))
            else:
                given.append(Given(name, at, one, other))
        rng.shuffle(given)
        assert set(findings(given, RUN, sent)) == stepped(path), path


def test_answers_are_packed_and_unpacked():
    given = [Given("allow", Log.START, RUN, HERE), Given("deny", 0.0)]
    assert unpacked(b"".join(map(packed, given))) == given


def test_an_answer_without_its_time_or_its_facts_allows_nothing_and_denies_all_the_same():
    sent = [Sent(Log.START, "quantum", HERE)]
    assert findings([Given("allow", 0.0, RUN, HERE)], RUN, sent) == ("asked_late",)
    assert findings([Given("allow", Log.START - 1)], RUN, sent) == ("other_facts",)
    assert findings([Given("deny", 0.0)], RUN, sent) == ("denied",)


class Asked:
    """A deployment whose runs of medium tier must ask the gate, and what was found."""

    def __init__(self, catalog, policy):
        self.stage, self.log, self.now = RunStage(catalog, policy, 1), Log(), Log.START
        self.policy, self.violations, self.evidence = policy, [], []
        self.beat(2)

    def apply(self, topic, *values):
        outcomes = self.stage.apply(self.log.batch(topic, values, self.now))
        assert [letter.detail for letter in outcomes.dead_letters] == []
        self.violations += outcomes.violations
        self.evidence += outcomes.evidence

    def beat(self, seconds):
        for _ in range(seconds):
            self.now += 1
            for topic in RunStage.topics:
                outcomes = self.stage.apply(self.log.heartbeat(topic, self.now))
                self.violations += outcomes.violations
                self.evidence += outcomes.evidence

    def gate(self, answer, at, *, run=None, routing=ROUTED):
        """The gate's own record of an answer, made as the gate makes it."""
        asked = {"request_id": "q", "run_id": "run-1", "run": {**SUBMITTED, **(run or {})}, "routing": routing}
        question = admission.asked(msgspec.convert(asked, AdmissionRequest))
        found = admission.decide(question, self.policy, lambda path, document: b"", (), at).record
        self.apply(ADMISSIONS, msgspec.json.encode(msgspec.structs.replace(found, answer=answer)))

    @property
    def why(self):
        return [each.reason for each in self.violations if each.rule == "gate_obeyed"]


@pytest.fixture
def asked(catalog):
    pack = load_pack()
    pack = pack._replace(data={**pack.data, "gate": {"tiers": ["medium"]}})
    return Asked(catalog, Policy(pack, Inline(pack.modules, pack.data)))


DENIED = "the gate denied the run, and it was routed"
LATE = "the gate was asked after the run had been routed"
OTHERS = "the gate answered about other facts than those of the run"
CLASSICAL = "the gate allowed the classical path alone, and the run was routed to another"
NOBODY = "nobody asked the gate, or it was down"


def run(asked, *, routed=(ROUTED,), first="submitted"):
    """A run that is routed two seconds from now, once or more."""
    steps = lifecycle(at=asked.now)
    routings = [event("routed", event_id=f"r{n}", at=asked.now + 2 + n / 10, **each) for n, each in enumerate(routed)]
    asked.apply(JOBS, *steps[:2], *routings, *steps[3:])
    asked.apply(RESULTS, result())


def test_who_asked_before_about_what_it_then_did_is_right(asked):
    asked.gate("allow", asked.now + 1)
    run(asked)
    asked.beat(70)
    assert asked.why == []


def test_the_order_in_which_the_logs_are_read_decides_nothing(asked):
    run(asked)
    asked.gate("allow", asked.now + 1)
    asked.beat(70)
    assert asked.why == []


WAYS_ROUND = {
    "nobody asked": ([], {}, NOBODY),
    "denied": ([("deny", 0, {})], {}, DENIED),
    "denied, then asked again": ([("deny", 0, {}), ("allow", 1, {})], {}, DENIED),
    "denied, asked again with harmless facts": ([("deny", 0, {}), ("allow", 1, {"run": {"shots": 500}})], {}, DENIED),
    "asked afterwards": ([("allow", 9, {})], {}, LATE),
    "asked about another routing": ([("allow", 0, {"routing": {**ROUTED, "region": "eu"}})], {}, OTHERS),
    "asked about a smaller run": ([("allow", 0, {"run": {"sensitivity": "public"}})], {}, OTHERS),
    "asked without a routing": ([("allow", 0, {"routing": None})], {}, OTHERS),
    "classical alone, routed elsewhere": ([("fallback_classical", 0, {})], {}, CLASSICAL),
    "classical alone, routed without a runtime": (
        [("fallback_classical", 0, {})],
        {"routed": ({**ROUTED, "runtime": None},)},
        CLASSICAL,
    ),
    "classical alone, the last routing classical": (
        [("fallback_classical", 0, {})],
        {"routed": (ROUTED, {**ROUTED, "runtime": "classical"})},
        CLASSICAL,
    ),
}


@pytest.mark.parametrize("name", WAYS_ROUND)
def test_a_way_round_the_gate_is_found(asked, name):
    answers, how, why = WAYS_ROUND[name]
    for answer, seconds, about in answers:
        asked.gate(answer, asked.now + seconds, **about)
    run(asked, **how)
    asked.beat(70)
    assert asked.why == [why]
    assert len([one for one in asked.evidence if hasattr(one, "closed")]) == 1


def test_who_goes_on_without_being_routed_does_not_escape(asked):
    asked.gate("deny", asked.now)
    steps = lifecycle(at=asked.now)
    asked.apply(JOBS, *steps[:2], *steps[3:])
    asked.beat(70)
    assert asked.why == [DENIED]


@pytest.mark.parametrize("seconds", [8, 60, 500])
def test_who_ends_a_run_first_and_goes_on_later_does_not_escape(asked, seconds):
    asked.gate("deny", asked.now)
    asked.apply(JOBS, lifecycle(at=asked.now)[0], event("rejected", at=asked.now, decision_id="d", policy_revision="p"))
    asked.beat(seconds)
    later = lifecycle(at=asked.now)
    asked.apply(JOBS, *later[2:6])
    asked.beat(140)
    found = {(each.rule, each.reason) for each in asked.violations}
    assert ("gate_obeyed", DENIED) in found
    assert ("admitted_first", "the run was rejected, and routed all the same") in found
    assert asked.stage.counters["bad", "M5"] == 1
    assert len({each.violation_id for each in asked.violations}) == len(asked.violations)


def test_a_restart_between_the_end_and_what_came_after_it_changes_nothing(asked, catalog):
    asked.gate("deny", asked.now)
    asked.apply(JOBS, lifecycle(at=asked.now)[0], event("rejected", at=asked.now, decision_id="d", policy_revision="p"))
    asked.beat(20)
    asked.apply(JOBS, *lifecycle(at=asked.now)[2:5])
    again = Asked(catalog, asked.policy)
    again.stage.restore(asked.stage.snapshot())
    again.log.offsets, again.now = dict(asked.log.offsets), asked.now
    again.violations, asked.violations = [], []
    again.beat(70)
    asked.beat(70)
    assert [each.violation_id for each in again.violations] == [each.violation_id for each in asked.violations] != []


def test_a_decision_after_the_end_that_nobody_reviewed_is_found(asked):
    asked.gate("allow", asked.now + 1, run=HIGH)
    steps = lifecycle(at=asked.now, submitted=HIGH)
    asked.apply(JOBS, *steps[:5])
    asked.apply(RESULTS, result())
    asked.beat(100)
    asked.violations = []
    asked.apply(JOBS, steps[5] | {"at": event("x", at=asked.now)["at"]})
    asked.beat(70)
    assert [each.rule for each in asked.violations] == ["human_review"]


def test_a_review_that_comes_after_its_decision_and_was_made_before_it_is_no_violation(asked):
    steps = lifecycle(at=asked.now, submitted=HIGH)
    asked.apply(JOBS, *steps[:5])
    asked.apply(RESULTS, result())
    asked.beat(100)
    asked.violations = []
    asked.apply(JOBS, event("decision", at=asked.now, outcome="approve", acted_on=True, explanation=EXPLAINED))
    asked.beat(5)
    asked.apply(JOBS, event("review", at=asked.now - 10, reviewer="somebody", verdict="passed"))
    asked.beat(70)
    assert not [each for each in asked.violations if each.rule == "human_review"]


def test_acts_of_a_run_that_is_long_forgotten_are_dead_letters_and_judged(catalog, policy):
    asked = Asked(catalog, policy)
    asked.apply(JOBS, lifecycle(at=asked.now)[0], event("rejected", at=asked.now, decision_id="d", policy_revision="p"))
    asked.beat(700)
    assert not asked.stage.closed
    routed = event("routed", at=asked.now, **ROUTED)
    outcomes = asked.stage.apply(asked.log.batch(JOBS, [routed], asked.now))
    assert [letter.reason for letter in outcomes.dead_letters] == ["too_late"]
    assert "approved_endpoint" in [each.rule for each in outcomes.violations]
    early = event("routed", event_id="early", at=Log.START, **ROUTED)
    assert not asked.stage.apply(asked.log.batch(JOBS, [early], asked.now)).violations, "that may be a repeat"


EXPLAINED = {"method": "shap", "digest": "sha256:x", "score": 0.9}
HIGH = {"workload": "credit-scoring", "purpose": "credit-decision", "tier": "high", "cost_center": "lending"}
