package qethics_test.shots_range

import rego.v1

import data.qethics.rules.run.shots_range
import data.qethics_test.fixture

shots := {"least": {"high": 500}, "most": 2000}

test_enough if {
	shots_range.deny == set() with input as fixture.changed({"run": {"shots": 500}})
		with data.shots as shots
}

test_classical if {
	shots_range.deny == set() with input as fixture.changed({"run": {"shots": null, "runtime": "classical"}})
		with data.shots as shots
}

test_too_few if {
	shots_range.deny == {"499 shots are fewer than 500, the least of tier high"} with input as fixture.changed({"run": {"shots": 499}})
		with data.shots as shots
}

test_too_many if {
	shots_range.deny == {"2001 shots are more than 2000"} with input as fixture.changed({"run": {"shots": 2001}})
		with data.shots as shots
}

test_not_said if {
	shots_range.deny == {"the run does not say how many shots"} with input as fixture.changed({"run": {"shots": null}})
		with data.shots as shots
}
