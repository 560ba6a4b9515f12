"""The two rules, and that their answer is total."""

import itertools

import pytest

from app.core.policy import Policy
from app.core.run import Declared, Routing

GOOD = Routing("ibm", "ibm-us-east/quantum", "us-east", "ibm_fez", "quantum")


def declared(**facts):
    return Declared(**{**dict.fromkeys(Declared.__struct_fields__), **facts})


def rules(verdict):
    return {breach.rule.name for breach in verdict.breaches}


def test_a_good_routing_breaks_nothing(policy):
    assert rules(policy.judge(declared(sensitivity="pii", encrypted=True), GOOD)) == set()


@pytest.mark.parametrize("encrypted", [False, None])
@pytest.mark.parametrize("sensitivity", ["confidential", "pii", "regulated", None])
def test_sensitive_or_unknown_data_must_be_encrypted(policy, sensitivity, encrypted):
    assert "encrypted_sensitive" in rules(policy.judge(declared(sensitivity=sensitivity, encrypted=encrypted), GOOD))


@pytest.mark.parametrize("change", [("endpoint", "nowhere"), ("endpoint", None), ("provider", "x"), ("region", None)])
def test_an_endpoint_that_is_not_as_listed_is_not_approved(policy, change):
    routing = Routing(**{**{name: getattr(GOOD, name) for name in Routing.__struct_fields__}, **dict([change])})
    assert rules(policy.judge(declared(sensitivity="public"), routing)) == {"approved_endpoint"}


def test_a_run_nobody_declared_is_denied_by_every_rule(policy):
    assert rules(policy.judge(None, GOOD)) == set(policy.rules)


def test_equal_questions_get_equal_answers_from_memory_and_from_the_engine(policy):
    values = itertools.product(["public", "pii", None], [True, False, None], ["ibm-us-east/quantum", "nowhere", None])
    for sensitivity, encrypted, endpoint in values:
        facts = declared(sensitivity=sensitivity, encrypted=encrypted)
        routing = Routing("ibm", endpoint, "us-east", None, "quantum")
        first = policy.judge(facts, routing)
        assert first == policy.judge(facts, routing) == policy._evaluate(facts, routing)


@pytest.mark.parametrize(
    "module",
    [
        "package qethics\nimport rego.v1\n",
        'package qethics\nimport rego.v1\ndecision := {"allow": true}\n',
        "package qethics\nimport rego.v1\ndecision := 1 / 0\n",
        'package qethics\nimport rego.v1\ndecision := {"allow": false, "violations": []}\n',
    ],
)
def test_undefined_error_and_a_denial_without_reason_deny(module):
    verdict = Policy({"decision.rego": module}, {}, {}).judge(declared(), GOOD)
    assert [breach.rule.name for breach in verdict.breaches] == ["policy_error"]
