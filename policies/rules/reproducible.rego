# METADATA
# scope: package
# title: A run can be made again
# description: From medium tier up a run names what it takes to make it again, that is code, environment, inputs, circuit and seed.
# authors: [Governance board]
# custom:
#   severity: medium
#   owner: audit
#   control: QE-REPR-1
#   remediation: Send the missing digest or seed when the run is submitted.
#   runbook: docs/policy.md#reproducible
package qethics.rules.run.reproducible

import rego.v1

import data.qethics.lib

deny contains reason if {
	not input.run.tier == "low"
	some material in data.reproducibility.always
	not material in input.run.material
	reason := sprintf("the run does not name its %s", [material])
}

deny contains reason if {
	not input.run.tier == "low"
	lib.quantum
	some material in data.reproducibility.quantum
	not material in input.run.material
	reason := sprintf("the run does not name its %s", [material])
}
