package qethics_test.consent_scope

import rego.v1

import data.qethics.rules.run.consent_scope
import data.qethics_test.fixture

test_covered if {
	consent_scope.deny == set() with input as fixture.changed({})
}

test_nothing_personal if {
	consent_scope.deny == set() with input as fixture.changed({"run": {"sensitivity": "public", "consent": null}})
}

test_no_consent if {
	consent_scope.deny == {"there is no consent"} with input as fixture.changed({"run": {"consent": null}})
}

test_withdrawn if {
	consent_scope.deny == {"there is no consent"} with input as fixture.changed({"run": {"consent": {"granted": false, "scopes": ["deciding"]}}})
}

test_unknown_sensitivity if {
	consent_scope.deny == {"there is no consent"} with input as fixture.changed({"run": {"sensitivity": null, "consent": null}})
}

test_another_purpose if {
	consent_scope.deny == {"the consent does not cover purpose deciding"} with input as fixture.changed({"run": {"consent": {"granted": true, "scopes": ["other"]}}})
}

test_no_scopes if {
	consent_scope.deny == {"the consent does not cover purpose deciding"} with input as fixture.changed({"run": {"consent": {"granted": true, "scopes": []}}})
}
