# METADATA
# scope: package
# title: Sensitive data is encrypted
# description: A run whose sensitivity calls for encryption says that its inputs are encrypted; unknown is not encrypted.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: security
#   control: QE-DATA-1
package qethics.rules.encrypted_sensitive

import rego.v1

deny contains reason if {
	needs_encryption
	not encrypted
	known_sensitivity
	reason := sprintf("%s data must be encrypted", [input.run.sensitivity])
}

deny contains "data of unknown sensitivity must be encrypted" if {
	not known_sensitivity
	not encrypted
}

needs_encryption if input.run.sensitivity in data.encrypted_sensitivities

known_sensitivity if is_string(input.run.sensitivity)

encrypted if input.run.encrypted == true
