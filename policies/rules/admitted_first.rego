# METADATA
# scope: package
# title: A run is admitted before it is routed
# description: A scheduler that routes a run nobody admitted, or one it rejected, has gone round the gate.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: platform
#   control: QE-ADM-1
#   remediation: Have the scheduler ask for admission; look for others with the sweep.
#   runbook: docs/policy.md#admitted_first
package qethics.rules.outcome.admitted_first

import rego.v1

deny contains "the run was rejected, and routed all the same" if {
	input.outcome.routed == true
	input.outcome.rejected == true
}

deny contains "the run was routed and never admitted" if {
	input.outcome.routed == true
	not input.outcome.admitted == true
}
