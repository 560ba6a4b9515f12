package qethics_test.human_review

import rego.v1

import data.qethics.rules.outcome.human_review
import data.qethics_test.fixture

test_reviewed if {
	human_review.deny == set() with input as fixture.changed({})
}

test_no_decision if {
	human_review.deny == set() with input as fixture.changed({"outcome": {"decided": false, "acted_on": null, "reviewed_first": false}})
}

test_not_acted_on if {
	human_review.deny == set() with input as fixture.changed({"outcome": {"acted_on": false, "reviewed_first": false}})
}

test_medium_tier if {
	human_review.deny == set() with input as fixture.changed({"run": {"tier": "medium"}, "outcome": {"reviewed_first": false}})
}

test_not_reviewed if {
	human_review.deny == {"it was acted on a decision that nobody had reviewed before"} with input as fixture.changed({"outcome": {"reviewed_first": false}})
}
