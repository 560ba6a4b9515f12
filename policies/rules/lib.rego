# METADATA
# scope: package
# title: What several rules ask
# description: Unknown is taken for the worse, so that what nobody says opens no door.
package qethics.lib

import rego.v1

default personal := false

personal if input.run.sensitivity in data.personal_sensitivities

personal if not input.run.sensitivity in data.sensitivities

default quantum := false

quantum if not input.run.runtime == "classical"

default high_tier := false

high_tier if input.run.tier == "high"

high_tier if not input.run.tier in data.tiers

consents(scope) if {
	input.run.consent.granted == true
	scope in input.run.consent.scopes
}

shown(value) := value if is_string(value)

shown(value) := "unknown" if not is_string(value)
