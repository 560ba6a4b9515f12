# METADATA
# scope: package
# title: Enough shots, and not too many
# description: Too few shots say nothing, too many are waste; both by tier.
# authors: [Governance board]
# custom:
#   severity: medium
#   owner: platform
#   control: QE-SHOT-1
#   remediation: Submit with a number of shots in the range of the tier.
#   runbook: docs/policy.md#shots_range
package qethics.rules.run.shots_range

import rego.v1

import data.qethics.lib

deny contains "the run does not say how many shots" if {
	lib.quantum
	not is_number(input.run.shots)
}

deny contains reason if {
	lib.quantum
	is_number(input.run.shots)
	least := data.shots.least[input.run.tier]
	input.run.shots < least
	reason := sprintf("%d shots are fewer than %d, the least of tier %s", [input.run.shots, least, input.run.tier])
}

deny contains reason if {
	lib.quantum
	is_number(input.run.shots)
	input.run.shots > data.shots.most
	reason := sprintf("%d shots are more than %d", [input.run.shots, data.shots.most])
}
