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
