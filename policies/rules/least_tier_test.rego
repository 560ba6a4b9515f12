package qethics_test.least_tier

import rego.v1

import data.qethics.rules.run.least_tier
import data.qethics_test.fixture

workloads := {"scoring": {"tier": "medium", "purposes": ["deciding"], "synchronous": true}, "routing": {"tier": "low", "purposes": ["deciding"], "synchronous": false}}

test_above if {
	least_tier.deny == set() with input as fixture.changed({})
		with data.workloads as workloads
}

test_equal if {
	least_tier.deny == set() with input as fixture.changed({"run": {"tier": "medium"}})
		with data.workloads as workloads
}

test_below if {
	least_tier.deny == {"workload scoring is of tier medium, the run says low"} with input as fixture.changed({"run": {"tier": "low"}})
		with data.workloads as workloads
}

test_not_said if {
	least_tier.deny == {"the run does not say its tier"} with input as fixture.changed({"run": {"tier": null}})
		with data.workloads as workloads
}

test_unknown_workload if {
	least_tier.deny == set() with input as fixture.changed({"run": {"workload": "other", "tier": "low"}})
		with data.workloads as workloads
}
