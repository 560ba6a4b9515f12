package qethics_test.approved_region

import rego.v1

import data.qethics.rules.routing.approved_region
import data.qethics_test.fixture

residency := {"regulated": ["home"]}

test_at_home if {
	approved_region.deny == set() with input as fixture.changed({})
		with data.residency as residency
}

test_not_limited if {
	approved_region.deny == set() with input as fixture.changed({"run": {"sensitivity": "public"}, "routing": {"region": "away"}})
		with data.residency as residency
}

test_away if {
	approved_region.deny == {"regulated data may not be processed in away"} with input as fixture.changed({"routing": {"region": "away"}})
		with data.residency as residency
}

test_nobody_knows_where if {
	approved_region.deny == {"regulated data may not be processed in unknown"} with input as fixture.changed({"routing": {"region": null}})
		with data.residency as residency
}
