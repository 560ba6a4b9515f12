# METADATA
# scope: package
# title: A third party signs its results
# description: A result from a third party that signs carries the signature, so that it can be shown to be theirs.
# authors: [Governance board]
# custom:
#   severity: medium
#   owner: security
#   control: QE-SIGN-1
#   remediation: Switch the provider's signature on, and send it as provenance.
#   runbook: docs/policy.md#signed_result
package qethics.rules.outcome.signed_result

import rego.v1

deny contains reason if {
	data.third_parties[input.outcome.provider].signs_results == true
	not input.outcome.signed == true
	reason := sprintf("the result of %s is not signed", [input.outcome.provider])
}
