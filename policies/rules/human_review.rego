# METADATA
# scope: package
# title: A person reviews a high-tier decision first
# description: A high-tier decision is acted on only after a person has looked at it.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: ethics
#   control: QE-HUM-1
#   remediation: Have the decision reviewed before it is acted on.
#   runbook: docs/policy.md#human_review
package qethics.rules.outcome.human_review

import rego.v1

import data.qethics.lib

deny contains "it was acted on a decision that nobody had reviewed before" if {
	lib.high_tier
	input.outcome.decided == true
	not input.outcome.acted_on == false
	not input.outcome.reviewed_first == true
}
