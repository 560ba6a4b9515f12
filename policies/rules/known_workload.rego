# METADATA
# scope: package
# title: The workload is in the catalog
# description: A workload that nobody registered has no owner, no tier and no limits.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: governance
#   control: QE-CAT-1
#   remediation: Register the workload in policies/catalog.yaml.
#   runbook: docs/policy.md#known_workload
package qethics.rules.run.known_workload

import rego.v1

import data.qethics.lib

deny contains reason if {
	not data.workloads[input.run.workload]
	reason := sprintf("workload %s is not in the catalog", [lib.shown(input.run.workload)])
}
