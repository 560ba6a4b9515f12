package qethics_test.approved_endpoint

import rego.v1

import data.qethics.rules.routing.approved_endpoint
import data.qethics_test.fixture

endpoints := {"here": {"provider": "ibm", "region": "home", "sensitivities": ["public", "regulated"], "contract": ["regulated"]}, "there": {"provider": "onprem", "region": "home", "sensitivities": ["public"], "contract": []}}

test_an_approved_endpoint if {
	approved_endpoint.deny == set() with input as fixture.changed({})
		with data.endpoints as endpoints
}

test_no_endpoint if {
	approved_endpoint.deny == {"the routing names no endpoint"} with input as fixture.changed({"routing": {"endpoint": null}})
		with data.endpoints as endpoints
}

test_unknown_sensitivity if {
	approved_endpoint.deny == {"the run does not say how sensitive its data is"} with input as fixture.changed({"run": {"sensitivity": null}})
		with data.endpoints as endpoints
}

test_unknown_endpoint if {
	approved_endpoint.deny == {"endpoint nowhere is not approved"} with input as fixture.changed({"routing": {"endpoint": "nowhere"}})
		with data.endpoints as endpoints
}

test_too_sensitive if {
	approved_endpoint.deny == {"endpoint here is not approved for pii data"} with input as fixture.changed({"run": {"sensitivity": "pii"}})
		with data.endpoints as endpoints
}

test_other_provider if {
	approved_endpoint.deny == {"endpoint here does not belong to provider braket"} with input as fixture.changed({"routing": {"provider": "braket"}})
		with data.endpoints as endpoints
}

test_unknown_provider if {
	approved_endpoint.deny == {"endpoint here does not belong to provider unknown"} with input as fixture.changed({"routing": {"provider": null}})
		with data.endpoints as endpoints
}

test_other_region if {
	approved_endpoint.deny == {"endpoint here is not in region away"} with input as fixture.changed({"routing": {"region": "away"}})
		with data.endpoints as endpoints
}
