package qethics_test.run_budget

import rego.v1

import data.qethics.rules.run.run_budget
import data.qethics_test.fixture

cost_centers := {"lending": {"run_usd": 10}}

test_no_estimate if {
	run_budget.deny == set() with input as fixture.changed({"run": {"estimated_cost_usd": null}})
		with data.cost_centers as cost_centers
}

test_less_than_nothing if {
	run_budget.deny == {"the estimated cost is less than nothing"} with input as fixture.changed({"run": {"estimated_cost_usd": -5}})
		with data.cost_centers as cost_centers
}

test_at_the_limit if {
	run_budget.deny == set() with input as fixture.changed({"run": {"estimated_cost_usd": 10}})
		with data.cost_centers as cost_centers
}

test_above if {
	run_budget.deny == {"the estimated cost is above what lending allows for a run"} with input as fixture.changed({"run": {"estimated_cost_usd": 10.01}})
		with data.cost_centers as cost_centers
}

test_no_budget if {
	run_budget.deny == {"cost center other has no budget"} with input as fixture.changed({"run": {"cost_center": "other"}})
		with data.cost_centers as cost_centers
}

test_not_named if {
	run_budget.deny == {"cost center unknown has no budget"} with input as fixture.changed({"run": {"cost_center": null}})
		with data.cost_centers as cost_centers
}
