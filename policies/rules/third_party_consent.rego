# METADATA
# scope: package
# title: The subject knows of third parties
# description: Personal data leaves for a third party's computer only if the consent says so.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: privacy
#   control: QE-CONS-2
#   remediation: Ask for consent to third-party-compute, or keep the run in house.
#   runbook: docs/policy.md#third_party_consent
package qethics.rules.routing.third_party_consent

import rego.v1

import data.qethics.lib

deny contains reason if {
	lib.personal
	data.third_parties[input.routing.provider]
	not lib.consents("third-party-compute")
	reason := sprintf("the consent does not cover compute by %s", [input.routing.provider])
}
