package qethics_test.explained

import rego.v1

import data.qethics.rules.decision.explained
import data.qethics_test.fixture

test_explained if {
	explained.deny == set() with input as fixture.changed({})
}

test_not_acted_on if {
	explained.deny == set() with input as fixture.changed({"decision": {"explained": false, "acted_on": false}})
}

test_medium_tier if {
	explained.deny == set() with input as fixture.changed({"run": {"tier": "medium"}, "decision": {"explained": false}})
}

test_not_explained if {
	explained.deny == {"it was acted on a decision without a sufficient explanation"} with input as fixture.changed({"decision": {"explained": false}})
}

test_nobody_says_whether if {
	explained.deny == {"it was acted on a decision without a sufficient explanation"} with input as fixture.changed({"decision": {"explained": false, "acted_on": null}})
}

test_unknown_tier if {
	explained.deny == {"it was acted on a decision without a sufficient explanation"} with input as fixture.changed({"run": {"tier": null}, "decision": {"explained": false}})
}
