package qethics_test.decision

import rego.v1

import data.qethics
import data.qethics_test.fixture

# Of every part one thing is wrong; only what is judged is denied.
wrong := fixture.changed({
	"run": {"encrypted": false},
	"routing": {"endpoint": null},
	"decision": {"explained": false},
	"outcome": {"reviewed_first": false},
	"clear": [{"field": "error", "text": "ada@example.org"}],
})

judging(part) := {violation.rule | some violation in violations} if {
	violations := qethics.decision.violations with input as object.union(wrong, {"judging": [part]})
}

test_run if "encrypted_sensitive" in judging("run")

test_routing if "approved_endpoint" in judging("routing")

test_decision if judging("decision") == {"explained"}

test_outcome if "human_review" in judging("outcome")

test_text if judging("text") == {"no_clear_pii"}

test_what_is_denied_is_not_allowed if {
	qethics.decision.allow == false with input as object.union(wrong, {"judging": ["text"]})
}

test_what_breaks_nothing_is_allowed if {
	qethics.decision == {"allow": true, "violations": set()} with input as object.union(fixture.document, {"judging": ["decision"]})
}

test_what_is_not_judged_is_not_denied if {
	qethics.decision == {"allow": true, "violations": set()} with input as {"judging": []}
}

# A rule whose `deny` is no set is refused when it is loaded. Should one get by, it denies.
bad := {true, "yes", 1, null, {"a": true}, ["a"]}

denied(violations, rule) if {
	some violation in violations
	violation.rule == rule
	violation.reason == qethics.no_set
}

test_a_deny_that_is_no_set_denies_a_run if {
	every value in bad {
		denied(qethics.violations, "broken") with input as {"judging": ["run"]} with data.qethics.rules.run as {"broken": {"deny": value}}
	}
}

test_a_deny_that_is_no_set_denies_a_routing if {
	every value in bad {
		denied(qethics.violations, "broken") with input as {"judging": ["routing"]} with data.qethics.rules.routing as {"broken": {"deny": value}}
	}
}

test_a_deny_that_is_no_set_denies_a_decision if {
	every value in bad {
		denied(qethics.violations, "broken") with input as {"judging": ["decision"]} with data.qethics.rules.decision as {"broken": {"deny": value}}
	}
}

test_a_deny_that_is_no_set_denies_an_outcome if {
	every value in bad {
		denied(qethics.violations, "broken") with input as {"judging": ["outcome"]} with data.qethics.rules.outcome as {"broken": {"deny": value}}
	}
}

test_a_deny_that_is_no_set_denies_a_text if {
	every value in bad {
		denied(qethics.violations, "broken") with input as {"judging": ["text"]} with data.qethics.rules.text as {"broken": {"deny": value}}
	}
}

test_a_deny_that_is_undefined_denies if {
	denied(qethics.violations, "broken") with input as {"judging": ["run"]} with data.qethics.rules.run as {"broken": {"title": "x"}}
}

test_a_deny_that_is_an_empty_set_denies_nothing if {
	count(qethics.violations) == 0 with input as {"judging": ["run"]} with data.qethics.rules.run as {"sound": {"deny": set()}}
}
