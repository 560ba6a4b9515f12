package qethics_test.known_workload

import rego.v1

import data.qethics.rules.run.known_workload
import data.qethics_test.fixture

workloads := {"scoring": {"tier": "medium", "purposes": ["deciding"], "synchronous": true}, "routing": {"tier": "low", "purposes": ["deciding"], "synchronous": false}}

test_known if {
	known_workload.deny == set() with input as fixture.changed({})
		with data.workloads as workloads
}

test_unknown if {
	known_workload.deny == {"workload other is not in the catalog"} with input as fixture.changed({"run": {"workload": "other"}})
		with data.workloads as workloads
}

test_not_named if {
	known_workload.deny == {"workload unknown is not in the catalog"} with input as fixture.changed({"run": {"workload": null}})
		with data.workloads as workloads
}
