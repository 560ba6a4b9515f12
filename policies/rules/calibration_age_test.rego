package qethics_test.calibration_age

import rego.v1

import data.qethics.rules.outcome.calibration_age
import data.qethics_test.fixture

calibration_hours := {"high": 48}

test_young if {
	calibration_age.deny == set() with input as fixture.changed({"outcome": {"calibration_age_hours": 48}})
		with data.calibration_hours as calibration_hours
}

test_any_age_will_do if {
	calibration_age.deny == set() with input as fixture.changed({"run": {"tier": "low"}, "outcome": {"calibration_age_hours": 900}})
		with data.calibration_hours as calibration_hours
}

test_no_device if {
	calibration_age.deny == set() with input as fixture.changed({"outcome": {"calibration_age_hours": null, "backend": null}})
		with data.calibration_hours as calibration_hours
}

test_old if {
	calibration_age.deny == {"the device's parameters are older than tier high allows"} with input as fixture.changed({"outcome": {"calibration_age_hours": 49}})
		with data.calibration_hours as calibration_hours
}

test_nobody_says if {
	calibration_age.deny == {"nobody says when the device was calibrated"} with input as fixture.changed({"outcome": {"calibration_age_hours": null}})
		with data.calibration_hours as calibration_hours
}
