# METADATA
# scope: package
# title: Data stays where it may be
# description: Where data of a sensitivity may be processed is limited, by law or by promise.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: privacy
#   control: QE-ROUTE-2
#   remediation: Route to an endpoint in a region of policies/governance.yaml, residency.
#   runbook: docs/policy.md#approved_region
package qethics.rules.routing.approved_region

import rego.v1

import data.qethics.lib

deny contains reason if {
	regions := data.residency[input.run.sensitivity]
	not input.routing.region in regions
	reason := sprintf("%s data may not be processed in %s", [input.run.sensitivity, lib.shown(input.routing.region)])
}
