# METADATA
# scope: package
# title: A run is within its cost center's limit
# description: The cost center is known, and the estimated cost of a run does not exceed what the center allows for one.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: finance
#   control: QE-COST-1
#   remediation: Lower the shots, or ask the cost center's owner for a higher limit.
#   runbook: docs/policy.md#run_budget
package qethics.rules.run.run_budget

import rego.v1

import data.qethics.lib

deny contains reason if {
	not data.cost_centers[input.run.cost_center]
	reason := sprintf("cost center %s has no budget", [lib.shown(input.run.cost_center)])
}

deny contains "the estimated cost is less than nothing" if {
	is_number(input.run.estimated_cost_usd)
	input.run.estimated_cost_usd < 0
}

deny contains reason if {
	limit := data.cost_centers[input.run.cost_center].run_usd
	is_number(input.run.estimated_cost_usd)
	input.run.estimated_cost_usd > limit
	reason := sprintf("the estimated cost is above what %s allows for a run", [input.run.cost_center])
}
