# METADATA
# scope: package
# title: A decision of high tier is explained
# description: What a high-tier run decided is acted on only with an explanation that is good enough for its workload.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: ethics
#   control: QE-EXPL-1
#   remediation: Send the explanation with the decision; improve it where its score is too low.
#   runbook: docs/policy.md#explained
package qethics.rules.decision.explained

import rego.v1

import data.qethics.lib

deny contains "it was acted on a decision without a sufficient explanation" if {
	lib.high_tier
	not input.decision.acted_on == false
	not input.decision.explained == true
}
