"""Admission by itself: the answer follows from rules, exemptions and directives, and is never looser than the rules."""

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import ROUTED, SUBMITTED, Log

from app.core import admission
from app.core.admission import AdmissionRequest
from app.core.evaluating import PolicyError
from app.core.evidence import instant
from app.core.outcomes import Directive, Outcomes
from app.core.policy import Policy
from app.core.replay import replayed
from app.policy.pack import load_policy
from app.sinks import decisions

NOW = Log.START
WEIRD = st.none() | st.booleans() | st.integers(-3, 2**31) | st.text(max_size=6)
DIRECTIVES = ("disable_routing", "fallback_classical", "rollback_canary", "freeze_offload", "dance")
TARGETS = ("ibm-us-east/quantum", "route-planning", "logistics", "ibm_fez", "other")


def order(directive, target, *, expires=NOW + 60):
    value = Directive(
        directive_id="d",
        directive=directive,
        target=target,
        reason="because",
        issued_at=instant(NOW),
        expires_at=instant(expires),
    )
    return {(directive, target): value}


def request(run=None, routing=None, **fields):
    asked = {"run": {**SUBMITTED, **(run or {})}, "routing": {**ROUTED, **(routing or {})}}
    return msgspec.convert({"request_id": "q", "run_id": "r", **asked, **fields}, AdmissionRequest)


def decided(policy, question, directives=None, now=NOW):
    def ask(path, document):
        return policy.evaluate.ask(path, document)

    return admission.decide(admission.asked(question), policy, ask, (directives or {}).values(), now)


def answer(policy, question, directives=None, now=NOW):
    return decided(policy, question, directives, now).response.answer


def test_the_answer_without_an_order_is_that_of_the_rules(policy):
    assert answer(policy, request()) == "allow"
    assert answer(policy, request({"shots": 1})) == "deny"
    assert answer(policy, request({"shots": 1, "fallback": "classical"})) == "fallback_classical"
    assert (
        answer(policy, request({"encrypted": False, "sensitivity": "confidential", "fallback": "classical"})) == "deny"
    )


@pytest.mark.parametrize("at", [NOW - 0.001, NOW, NOW + 0.001])
def test_an_order_holds_until_the_instant_it_expires(policy, at):
    wanted = "deny" if at > NOW else "allow"
    assert answer(policy, request(), order("disable_routing", "ibm-us-east/quantum", expires=at)) == wanted


def test_a_canary_that_is_rolled_back_is_denied_and_the_stable_release_is_not(policy):
    orders = order("rollback_canary", "route-planning")
    canary = {"canary": True, "canary_share": 0.05, "fallback": "classical"}
    assert answer(policy, request(canary), orders) == "deny"
    assert answer(policy, request({"canary": False}), orders) == "allow"


def test_what_is_sent_to_a_quantum_computer_is_not_classical_whatever_it_declares(policy):
    run, routing = {"runtime": "classical"}, {"runtime": "quantum"}
    question = request(run, routing)
    assert [each.rule for each in decided(policy, question).response.reasons] == ["routed_as_declared"]
    for orders in (order("freeze_offload", "logistics"), order("fallback_classical", "ibm_fez")):
        assert len(decided(policy, question, orders).response.directives) == 1
    at_home = request(run, {"runtime": "classical"})
    assert decided(policy, at_home, order("freeze_offload", "logistics")).response.answer == "allow"


def test_an_order_that_begins_tomorrow_is_not_obeyed_today(policy):
    orders = order("freeze_offload", "logistics", expires=NOW + 90_000)
    ((key, value),) = orders.items()
    orders[key] = msgspec.structs.replace(value, issued_at=instant(NOW + 86_400))
    assert answer(policy, request(), orders) == "allow"


def test_where_nothing_answers_the_answer_is_deny(policy):
    def broken(document):
        raise PolicyError("the engine is gone")

    silent = Policy(policy.pack, broken)
    question = admission.asked(request({"fallback": "classical"}))
    found = admission.decide(question, silent, lambda path, document: broken(document), (), NOW)
    assert found.response.answer == "deny"
    assert found.response.reasons[0].reason == "no decision: the engine is gone"


def test_only_rules_that_may_fail_open_are_gone_on_without(policy):
    names = {"shots_range", "run_budget"}
    rules = {name: msgspec.structs.replace(rule, fail_open=name in names) for name, rule in policy.pack.rules.items()}

    def together(document):
        raise PolicyError("too slow")

    def ask(path, document):
        if path.split(".")[-2] in silent:
            raise PolicyError("no answer")
        return policy.evaluate.ask(path, document)

    half = Policy(policy.pack._replace(rules=rules), together)
    silent = names
    found = admission.decide(admission.asked(request({"shots": 1})), half, ask, (), NOW).response
    assert (found.answer, found.failed_open) == ("allow", ("run_budget", "shots_range"))
    silent = {"shots_range", "encrypted_sensitive"}
    found = admission.decide(admission.asked(request()), half, ask, (), NOW).response
    assert (found.answer, found.failed_open) == ("deny", ("shots_range",))
    assert found.reasons[0].reason.startswith("encrypted_sensitive gave no answer")
    silent = set()
    found = admission.decide(admission.asked(request({"shots": 1})), half, ask, (), NOW).response
    assert [reason.rule for reason in found.reasons] == ["shots_range"], "the others answer by themselves"


runs = st.dictionaries(st.sampled_from([*SUBMITTED, "fallback", "canary", "canary_share"]), WEIRD, max_size=6)
orders = st.lists(st.tuples(st.sampled_from(DIRECTIVES), st.sampled_from(TARGETS), st.integers(-50, 50)), max_size=4)
_MADE = []


def _policy():
    if not _MADE:
        _MADE.append(load_policy())
    return _MADE[0]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs, st.dictionaries(st.sampled_from(sorted(ROUTED)), WEIRD, max_size=3), orders)
def test_nothing_is_allowed_that_rules_or_orders_forbid_and_every_record_replays(run, routing, given_orders):
    """What is allowed breaks no rule and no order in force; and who decides again gets the same bytes."""
    policy = _policy()
    try:
        question = request({**run}, routing)
    except msgspec.ValidationError:
        return
    directives = {}
    for directive, target, seconds in given_orders:
        directives |= order(directive, target, expires=NOW + seconds)
    found = decided(policy, question, directives)
    verdict = policy.judge(admission.asked(question).facts)
    active = {key for key, each in directives.items() if each.expires_at > instant(NOW)}
    if found.response.answer == "allow":
        assert not verdict.denies
        assert ("disable_routing", question.routing.endpoint) not in active
        assert ("freeze_offload", question.run.cost_center) not in active or question.run.runtime == "classical"
    if found.response.answer == "fallback_classical":
        assert question.run.fallback == "classical"
        assert question.run.runtime != "classical"
    assert {(each.directive, each.target) for each in found.response.directives} <= active
    written = msgspec.json.encode(found.record)
    assert replayed(written, policy) == written
    assert json.loads(written)["answer"] == found.response.answer


def test_the_record_is_a_line_of_the_decision_log(policy):
    record = decided(policy, request({"shots": 1}, requested_by="scheduler")).record
    assert (record.req_id, record.requested_by, record.answer) == ("q", "scheduler", "deny")
    (line,) = decisions.SINK.lines(Outcomes(decisions=[record]))
    assert line.key == b"r"
