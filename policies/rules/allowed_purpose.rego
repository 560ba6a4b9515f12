# METADATA
# scope: package
# title: The purpose is allowed
# description: Some purposes are forbidden altogether; a workload serves the purposes it was registered for.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: ethics
#   control: QE-PURP-1
#   remediation: Use the run for a purpose the workload is registered for, or have the catalog changed.
#   runbook: docs/policy.md#allowed_purpose
package qethics.rules.run.allowed_purpose

import rego.v1

import data.qethics.lib

deny contains reason if {
	input.run.purpose in data.forbidden_purposes
	reason := sprintf("purpose %s is forbidden", [input.run.purpose])
}

deny contains reason if {
	known := data.workloads[input.run.workload]
	not input.run.purpose in known.purposes
	reason := sprintf("workload %s is not registered for purpose %s", [input.run.workload, lib.shown(input.run.purpose)])
}
