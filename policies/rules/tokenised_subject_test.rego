package qethics_test.tokenised_subject

import rego.v1

import data.qethics.rules.run.tokenised_subject
import data.qethics_test.fixture

test_a_token if {
	tokenised_subject.deny == set() with input as fixture.changed({})
}

test_nothing_personal if {
	tokenised_subject.deny == set() with input as fixture.changed({"run": {"sensitivity": "internal", "tokenised": false}})
}

test_no_token if {
	tokenised_subject.deny == {"the run names no subject token"} with input as fixture.changed({"run": {"tokenised": false}})
}
