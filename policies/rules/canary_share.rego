# METADATA
# scope: package
# title: A canary is small
# description: A new release gets a small share of the runs, the smaller the more critical they are.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: platform
#   control: QE-CAN-1
#   remediation: Lower the share of the canary.
#   runbook: docs/policy.md#canary_share
package qethics.rules.run.canary_share

import rego.v1

deny contains "the canary does not say its share" if {
	input.run.canary == true
	not is_number(input.run.canary_share)
}

deny contains reason if {
	input.run.canary == true
	is_number(input.run.canary_share)
	most := data.canary_share[input.run.tier]
	input.run.canary_share > most
	reason := sprintf("the canary's share is above the most of tier %s", [input.run.tier])
}
