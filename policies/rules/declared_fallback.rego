# METADATA
# scope: package
# title: A synchronous workload can do without the quantum path
# description: Somebody waits for a synchronous workload; its runs declare the classical path that answers when the quantum one does not.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: platform
#   control: QE-FALL-1
#   remediation: Declare fallback as classical, and test that path.
#   runbook: docs/policy.md#declared_fallback
package qethics.rules.run.declared_fallback

import rego.v1

import data.qethics.lib

deny contains reason if {
	data.workloads[input.run.workload].synchronous == true
	lib.quantum
	not input.run.fallback == "classical"
	reason := sprintf("workload %s is synchronous and the run declares no classical fallback", [input.run.workload])
}
