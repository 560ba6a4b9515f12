# METADATA
# scope: package
# title: Consent covers the purpose
# description: Personal data is used only with a consent whose scopes name the purpose.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: privacy
#   control: QE-CONS-1
#   remediation: Ask the subject for consent to this purpose, or leave the data out.
#   runbook: docs/policy.md#consent_scope
package qethics.rules.run.consent_scope

import rego.v1

import data.qethics.lib

deny contains "there is no consent" if {
	lib.personal
	not input.run.consent.granted == true
}

deny contains reason if {
	lib.personal
	input.run.consent.granted == true
	not lib.consents(input.run.purpose)
	reason := sprintf("the consent does not cover purpose %s", [lib.shown(input.run.purpose)])
}
