# METADATA
# scope: package
# title: A person is named by a token
# description: A run on personal data carries a subject token, by which those who may find the person, and nobody else.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: privacy
#   control: QE-PII-2
#   remediation: Send the subject's token as subject_token.
#   runbook: docs/policy.md#tokenised_subject
package qethics.rules.run.tokenised_subject

import rego.v1

import data.qethics.lib

deny contains "the run names no subject token" if {
	lib.personal
	not input.run.tokenised == true
}
