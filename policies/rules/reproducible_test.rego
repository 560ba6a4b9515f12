package qethics_test.reproducible

import rego.v1

import data.qethics.rules.run.reproducible
import data.qethics_test.fixture

reproducibility := {"always": ["code_digest"], "quantum": ["seed"]}

test_all_named if {
	reproducible.deny == set() with input as fixture.changed({})
		with data.reproducibility as reproducibility
}

test_low_tier if {
	reproducible.deny == set() with input as fixture.changed({"run": {"tier": "low", "material": []}})
		with data.reproducibility as reproducibility
}

test_classical if {
	reproducible.deny == set() with input as fixture.changed({"run": {"runtime": "classical", "material": ["code_digest"]}})
		with data.reproducibility as reproducibility
}

test_no_code if {
	reproducible.deny == {"the run does not name its code_digest"} with input as fixture.changed({"run": {"material": ["seed"]}})
		with data.reproducibility as reproducibility
}

test_no_seed if {
	reproducible.deny == {"the run does not name its seed"} with input as fixture.changed({"run": {"material": ["code_digest"]}})
		with data.reproducibility as reproducibility
}
