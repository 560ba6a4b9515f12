# METADATA
# scope: package
# title: What a run costs is known
# description: A run that completed was estimated beforehand or has been billed; a limit says nothing of a cost that nobody names.
# authors: [Governance board]
# custom:
#   severity: medium
#   owner: finance
#   control: QE-COST-2
#   remediation: Declare estimated_cost_usd, or send the cost with the run where bills come later.
#   runbook: docs/policy.md#known_cost
package qethics.rules.outcome.known_cost

import rego.v1

deny contains "the run was neither estimated nor billed" if {
	input.outcome.completed == true
	not is_number(input.run.estimated_cost_usd)
	not input.outcome.billed == true
}
