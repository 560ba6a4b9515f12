package qethics_test.gate_obeyed

import rego.v1

import data.qethics.rules.outcome.gate_obeyed
import data.qethics_test.fixture

denied(outcome, run, tiers) := reasons if {
	reasons := gate_obeyed.deny with input as fixture.changed({"outcome": outcome, "run": run})
		with data.gate as {"tiers": tiers}
}

test_obeyed if {
	denied({"gate": []}, {}, ["high"]) == set()
}

test_must_ask if {
	denied({"gate": ["unasked"]}, {}, ["high"]) == {"nobody asked the gate, or it was down"}
	denied({"gate": ["asked_late"]}, {}, ["high"]) == {"the gate was asked after the run had been routed"}
	denied({"gate": ["other_facts"]}, {}, ["high"]) == {"the gate answered about other facts than those of the run"}
}

test_need_not_ask if {
	every finding in ["unasked", "asked_late", "other_facts"] {
		denied({"gate": [finding]}, {"tier": "low"}, ["high"]) == set()
		denied({"gate": [finding]}, {}, []) == set()
	}
}

test_unknown_tier_must_ask if {
	denied({"gate": ["unasked"]}, {"tier": null}, ["high"]) == {"nobody asked the gate, or it was down"}
	denied({"gate": ["unasked"]}, {"tier": null}, []) == set()
}

test_denied if {
	denied({"gate": ["denied"]}, {}, []) == {"the gate denied the run, and it was routed"}
}

test_another_path if {
	denied({"gate": ["not_classical"]}, {}, []) == {"the gate allowed the classical path alone, and the run was routed to another"}
}

test_not_said if {
	denied({"gate": null}, {}, []) == {"it is not said how the run went on"}
}
