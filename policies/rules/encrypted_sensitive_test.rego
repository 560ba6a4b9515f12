package qethics_test.encrypted_sensitive

import rego.v1

import data.qethics.rules.run.encrypted_sensitive
import data.qethics_test.fixture

encrypted_sensitivities := ["regulated"]

test_encrypted if {
	encrypted_sensitive.deny == set() with input as fixture.changed({})
		with data.encrypted_sensitivities as encrypted_sensitivities
}

test_not_sensitive if {
	encrypted_sensitive.deny == set() with input as fixture.changed({"run": {"sensitivity": "public", "encrypted": false}})
		with data.encrypted_sensitivities as encrypted_sensitivities
}

test_in_clear if {
	encrypted_sensitive.deny == {"regulated data must be encrypted"} with input as fixture.changed({"run": {"encrypted": false}})
		with data.encrypted_sensitivities as encrypted_sensitivities
}

test_not_said if {
	encrypted_sensitive.deny == {"regulated data must be encrypted"} with input as fixture.changed({"run": {"encrypted": null}})
		with data.encrypted_sensitivities as encrypted_sensitivities
}

test_unknown_sensitivity if {
	encrypted_sensitive.deny == {"data of unknown sensitivity must be encrypted"} with input as fixture.changed({"run": {"sensitivity": null, "encrypted": null}})
		with data.encrypted_sensitivities as encrypted_sensitivities
}
