# METADATA
# scope: package
# title: A workload is not declared below its tier
# description: The catalog says how critical a workload is; a run may claim more, not less.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: governance
#   control: QE-TIER-1
#   remediation: Declare the tier that the catalog gives the workload, or a higher one.
#   runbook: docs/policy.md#least_tier
package qethics.rules.run.least_tier

import rego.v1

deny contains "the run does not say its tier" if {
	not input.run.tier in data.tiers
}

deny contains reason if {
	least := data.workloads[input.run.workload].tier
	rank(input.run.tier) < rank(least)
	reason := sprintf("workload %s is of tier %s, the run says %s", [input.run.workload, least, input.run.tier])
}

rank(tier) := position if {
	some position, name in data.tiers
	name == tier
}
