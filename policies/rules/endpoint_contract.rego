# METADATA
# scope: package
# title: Third parties are under contract
# description: Data that is not open goes to a third party only under a contract that covers it.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: legal
#   control: QE-ROUTE-3
#   remediation: Route to an endpoint whose contract covers the data, or sign one and enter it in policies/endpoints.yaml.
#   runbook: docs/policy.md#endpoint_contract
package qethics.rules.routing.endpoint_contract

import rego.v1

import data.qethics.lib

deny contains reason if {
	endpoint := data.endpoints[input.routing.endpoint]
	data.third_parties[endpoint.provider]
	not input.run.sensitivity in endpoint.contract
	not input.run.sensitivity in data.uncontracted_sensitivities
	reason := sprintf("no contract with %s covers %s data", [endpoint.provider, lib.shown(input.run.sensitivity)])
}
