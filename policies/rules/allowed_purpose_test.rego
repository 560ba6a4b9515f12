package qethics_test.allowed_purpose

import rego.v1

import data.qethics.rules.run.allowed_purpose
import data.qethics_test.fixture

workloads := {"scoring": {"tier": "medium", "purposes": ["deciding"], "synchronous": true}, "routing": {"tier": "low", "purposes": ["deciding"], "synchronous": false}}

forbidden_purposes := ["weapons"]

test_registered if {
	allowed_purpose.deny == set() with input as fixture.changed({})
		with data.workloads as workloads
		with data.forbidden_purposes as forbidden_purposes
}

test_forbidden if {
	allowed_purpose.deny == {"purpose weapons is forbidden", "workload scoring is not registered for purpose weapons"} with input as fixture.changed({"run": {"purpose": "weapons"}})
		with data.workloads as workloads
		with data.forbidden_purposes as forbidden_purposes
}

test_not_registered if {
	allowed_purpose.deny == {"workload scoring is not registered for purpose bidding"} with input as fixture.changed({"run": {"purpose": "bidding"}})
		with data.workloads as workloads
		with data.forbidden_purposes as forbidden_purposes
}

test_not_named if {
	allowed_purpose.deny == {"workload scoring is not registered for purpose unknown"} with input as fixture.changed({"run": {"purpose": null}})
		with data.workloads as workloads
		with data.forbidden_purposes as forbidden_purposes
}
