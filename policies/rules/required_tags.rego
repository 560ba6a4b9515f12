# METADATA
# scope: package
# title: A run says what it is
# description: Every run names its workload, purpose, submitter and cost center.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: platform
#   control: QE-TAG-1
#   remediation: Declare the missing tag when the run is submitted.
#   runbook: docs/policy.md#required_tags
package qethics.rules.run.required_tags

import rego.v1

required := {"workload", "purpose", "submitter", "cost_center"}

deny contains reason if {
	some tag in required
	not is_string(input.run[tag])
	reason := sprintf("the run does not say its %s", [tag])
}
