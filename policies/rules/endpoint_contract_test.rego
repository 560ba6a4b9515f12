package qethics_test.endpoint_contract

import rego.v1

import data.qethics.rules.routing.endpoint_contract
import data.qethics_test.fixture

endpoints := {"here": {"provider": "ibm", "region": "home", "sensitivities": ["public", "regulated"], "contract": ["regulated"]}, "there": {"provider": "onprem", "region": "home", "sensitivities": ["public"], "contract": []}}

third_parties := {"ibm": {"signs_results": false}}

uncontracted_sensitivities := ["public"]

test_covered if {
	endpoint_contract.deny == set() with input as fixture.changed({})
		with data.endpoints as endpoints
		with data.third_parties as third_parties
		with data.uncontracted_sensitivities as uncontracted_sensitivities
}

test_open_data if {
	endpoint_contract.deny == set() with input as fixture.changed({"run": {"sensitivity": "public"}})
		with data.endpoints as endpoints
		with data.third_parties as third_parties
		with data.uncontracted_sensitivities as uncontracted_sensitivities
}

test_no_third_party if {
	endpoint_contract.deny == set() with input as fixture.changed({"routing": {"endpoint": "there"}, "run": {"sensitivity": "pii"}})
		with data.endpoints as endpoints
		with data.third_parties as third_parties
		with data.uncontracted_sensitivities as uncontracted_sensitivities
}

test_not_covered if {
	endpoint_contract.deny == {"no contract with ibm covers pii data"} with input as fixture.changed({"run": {"sensitivity": "pii"}})
		with data.endpoints as endpoints
		with data.third_parties as third_parties
		with data.uncontracted_sensitivities as uncontracted_sensitivities
}

test_unknown_data if {
	endpoint_contract.deny == {"no contract with ibm covers unknown data"} with input as fixture.changed({"run": {"sensitivity": null}})
		with data.endpoints as endpoints
		with data.third_parties as third_parties
		with data.uncontracted_sensitivities as uncontracted_sensitivities
}
