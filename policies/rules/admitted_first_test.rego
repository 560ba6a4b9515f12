package qethics_test.admitted_first

import rego.v1

import data.qethics.rules.outcome.admitted_first
import data.qethics_test.fixture

test_admitted if {
	admitted_first.deny == set() with input as fixture.changed({})
}

test_not_routed if {
	admitted_first.deny == set() with input as fixture.changed({"outcome": {"routed": false, "admitted": false}})
}

test_round_the_gate if {
	admitted_first.deny == {"the run was routed and never admitted"} with input as fixture.changed({"outcome": {"admitted": false}})
}

test_rejected if {
	admitted_first.deny == {"the run was rejected, and routed all the same"} with input as fixture.changed({"outcome": {"rejected": true}})
}
