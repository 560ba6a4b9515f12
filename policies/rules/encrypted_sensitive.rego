# METADATA
# scope: package
# title: Sensitive data is encrypted
# description: A run whose sensitivity calls for encryption says that its inputs are encrypted; unknown is not encrypted.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: security
#   control: QE-DATA-1
#   remediation: Encrypt the inputs before they leave, and declare encrypted.
#   runbook: docs/policy.md#encrypted_sensitive
package qethics.rules.run.encrypted_sensitive

import rego.v1

deny contains reason if {
	input.run.sensitivity in data.encrypted_sensitivities
	not input.run.encrypted == true
	reason := sprintf("%s data must be encrypted", [input.run.sensitivity])
}

deny contains "data of unknown sensitivity must be encrypted" if {
	not input.run.sensitivity in data.sensitivities
	not input.run.encrypted == true
}
