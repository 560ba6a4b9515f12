package qethics_test.third_party_consent

import rego.v1

import data.qethics.rules.routing.third_party_consent
import data.qethics_test.fixture

third_parties := {"ibm": {"signs_results": false}}

test_agreed if {
	third_party_consent.deny == set() with input as fixture.changed({})
		with data.third_parties as third_parties
}

test_nothing_personal if {
	third_party_consent.deny == set() with input as fixture.changed({"run": {"sensitivity": "public", "consent": null}})
		with data.third_parties as third_parties
}

test_in_house if {
	third_party_consent.deny == set() with input as fixture.changed({"routing": {"provider": "onprem"}, "run": {"consent": null}})
		with data.third_parties as third_parties
}

test_not_agreed if {
	third_party_consent.deny == {"the consent does not cover compute by ibm"} with input as fixture.changed({"run": {"consent": {"granted": true, "scopes": ["deciding"]}}})
		with data.third_parties as third_parties
}

test_withdrawn if {
	third_party_consent.deny == {"the consent does not cover compute by ibm"} with input as fixture.changed({"run": {"consent": {"granted": false, "scopes": ["third-party-compute"]}}})
		with data.third_parties as third_parties
}

test_no_consent if {
	third_party_consent.deny == {"the consent does not cover compute by ibm"} with input as fixture.changed({"run": {"consent": null}})
		with data.third_parties as third_parties
}
