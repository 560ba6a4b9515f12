package qethics_test.canary_share

import rego.v1

import data.qethics.rules.run.canary_share
import data.qethics_test.fixture

shares := {"high": 0.05}

test_no_canary if {
	canary_share.deny == set() with input as fixture.changed({})
		with data.canary_share as shares
}

test_small if {
	canary_share.deny == set() with input as fixture.changed({"run": {"canary": true, "canary_share": 0.05}})
		with data.canary_share as shares
}

test_large if {
	canary_share.deny == {"the canary's share is above the most of tier high"} with input as fixture.changed({"run": {"canary": true, "canary_share": 0.06}})
		with data.canary_share as shares
}

test_not_said if {
	canary_share.deny == {"the canary does not say its share"} with input as fixture.changed({"run": {"canary": true}})
		with data.canary_share as shares
}
