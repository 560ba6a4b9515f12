package qethics_test.known_cost

import rego.v1

import data.qethics.rules.outcome.known_cost
import data.qethics_test.fixture

denied(outcome, run) := reasons if {
	reasons := known_cost.deny with input as fixture.changed({"outcome": outcome, "run": run})
}

test_estimated if {
	denied({"billed": false}, {"estimated_cost_usd": 0}) == set()
}

test_billed if {
	denied({"billed": true}, {"estimated_cost_usd": null}) == set()
}

test_neither if {
	denied({"billed": false}, {"estimated_cost_usd": null}) == {"the run was neither estimated nor billed"}
	denied({"billed": null}, {"estimated_cost_usd": null}) == {"the run was neither estimated nor billed"}
}

test_not_completed if {
	denied({"billed": false, "completed": false}, {"estimated_cost_usd": null}) == set()
}
