# METADATA
# scope: package
# title: The device was calibrated lately
# description: Results on old parameters say little of what the device did; how old is too old depends on the tier.
# authors: [Governance board]
# custom:
#   severity: medium
#   owner: platform
#   control: QE-CAL-1
#   remediation: Route to a device that was calibrated lately, or wait for its calibration.
#   runbook: docs/policy.md#calibration_age
package qethics.rules.outcome.calibration_age

import rego.v1

deny contains "nobody says when the device was calibrated" if {
	is_string(input.outcome.backend)
	data.calibration_hours[input.run.tier]
	not is_number(input.outcome.calibration_age_hours)
}

deny contains reason if {
	is_number(input.outcome.calibration_age_hours)
	most := data.calibration_hours[input.run.tier]
	input.outcome.calibration_age_hours > most
	reason := sprintf("the device's parameters are older than tier %s allows", [input.run.tier])
}
