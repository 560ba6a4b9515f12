package qethics_test.declared_fallback

import rego.v1

import data.qethics.rules.run.declared_fallback
import data.qethics_test.fixture

workloads := {"scoring": {"tier": "medium", "purposes": ["deciding"], "synchronous": true}, "routing": {"tier": "low", "purposes": ["deciding"], "synchronous": false}}

test_declared if {
	declared_fallback.deny == set() with input as fixture.changed({})
		with data.workloads as workloads
}

test_nobody_waits if {
	declared_fallback.deny == set() with input as fixture.changed({"run": {"workload": "routing", "fallback": null}})
		with data.workloads as workloads
}

test_classical if {
	declared_fallback.deny == set() with input as fixture.changed({"run": {"runtime": "classical", "fallback": null}})
		with data.workloads as workloads
}

test_none if {
	declared_fallback.deny == {"workload scoring is synchronous and the run declares no classical fallback"} with input as fixture.changed({"run": {"fallback": null}})
		with data.workloads as workloads
}

test_another_device if {
	declared_fallback.deny == {"workload scoring is synchronous and the run declares no classical fallback"} with input as fixture.changed({"run": {"fallback": "quantum"}})
		with data.workloads as workloads
}
