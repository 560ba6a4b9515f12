# METADATA
# scope: package
# title: Runs go to approved endpoints
# description: The endpoint is in the endpoint list, with its provider and region, and approved for the run's sensitivity.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: platform
#   control: QE-ROUTE-1
#   remediation: Route to an endpoint of policies/endpoints.yaml that takes this data.
#   runbook: docs/policy.md#approved_endpoint
package qethics.rules.routing.approved_endpoint

import rego.v1

import data.qethics.lib

deny contains "the routing names no endpoint" if {
	not is_string(input.routing.endpoint)
}

deny contains "the run does not say how sensitive its data is" if {
	not is_string(input.run.sensitivity)
}

deny contains reason if {
	is_string(input.routing.endpoint)
	not data.endpoints[input.routing.endpoint]
	reason := sprintf("endpoint %s is not approved", [input.routing.endpoint])
}

deny contains reason if {
	endpoint := data.endpoints[input.routing.endpoint]
	is_string(input.run.sensitivity)
	not input.run.sensitivity in endpoint.sensitivities
	reason := sprintf("endpoint %s is not approved for %s data", [input.routing.endpoint, input.run.sensitivity])
}

deny contains reason if {
	endpoint := data.endpoints[input.routing.endpoint]
	input.routing.provider != endpoint.provider
	reason := sprintf("endpoint %s does not belong to provider %s", [input.routing.endpoint, lib.shown(input.routing.provider)])
}

deny contains reason if {
	endpoint := data.endpoints[input.routing.endpoint]
	input.routing.region != endpoint.region
	reason := sprintf("endpoint %s is not in region %s", [input.routing.endpoint, lib.shown(input.routing.region)])
}
