package qethics_test.signed_result

import rego.v1

import data.qethics.rules.outcome.signed_result
import data.qethics_test.fixture

third_parties := {"ibm": {"signs_results": false}, "braket": {"signs_results": true}}

test_need_not_sign if {
	signed_result.deny == set() with input as fixture.changed({})
		with data.third_parties as third_parties
}

test_signed if {
	signed_result.deny == set() with input as fixture.changed({"outcome": {"provider": "braket", "signed": true}})
		with data.third_parties as third_parties
}

test_nobody_answered if {
	signed_result.deny == set() with input as fixture.changed({"outcome": {"provider": null}})
		with data.third_parties as third_parties
}

test_not_signed if {
	signed_result.deny == {"the result of braket is not signed"} with input as fixture.changed({"outcome": {"provider": "braket"}})
		with data.third_parties as third_parties
}
