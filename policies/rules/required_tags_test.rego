package qethics_test.required_tags

import rego.v1

import data.qethics.rules.run.required_tags
import data.qethics_test.fixture

test_all_there if {
	required_tags.deny == set() with input as fixture.changed({})
}

test_one_missing if {
	required_tags.deny == {"the run does not say its purpose"} with input as fixture.changed({"run": {"purpose": null}})
}

test_two_missing if {
	required_tags.deny == {"the run does not say its cost_center", "the run does not say its submitter"} with input as fixture.changed({"run": {"submitter": null, "cost_center": null}})
}
