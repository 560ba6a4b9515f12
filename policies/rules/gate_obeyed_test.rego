package qethics_test.gate_obeyed

import rego.v1

import data.qethics.rules.outcome.gate_obeyed
import data.qethics_test.fixture

denied(outcome, run, tiers) := reasons if {
	reasons := gate_obeyed.deny with input as fixture.changed({"outcome": outcome, "run": run})
		with data.gate as {"tiers": tiers}
}

test_allowed if {
	denied({"answer": "allow"}, {}, ["high"]) == set()
}

test_never_asked if {
	denied({"answer": null}, {}, ["high"]) == {"nobody asked the gate, or it was down"}
}

test_need_not_ask if {
	denied({"answer": null}, {"tier": "low"}, ["high"]) == set()
	denied({"answer": null}, {}, []) == set()
}

test_unknown_tier_must_ask if {
	denied({"answer": null}, {"tier": null}, ["high"]) == {"nobody asked the gate, or it was down"}
	denied({"answer": null}, {"tier": null}, []) == set()
}

test_not_routed if {
	denied({"answer": null, "routed": false}, {}, ["high"]) == set()
	denied({"answer": "deny", "routed": false}, {}, ["high"]) == set()
}

test_denied if {
	denied({"answer": "deny"}, {}, []) == {"the gate denied the run, and it was routed"}
}

test_classical_path if {
	gate_obeyed.deny == set() with input as fixture.changed({
		"outcome": {"answer": "fallback_classical"},
		"routing": {"runtime": "classical"},
	})
}

test_another_path if {
	expected := {"the gate allowed the classical path alone, and the run was routed to another"}
	gate_obeyed.deny == expected with input as fixture.changed({
		"outcome": {"answer": "fallback_classical"},
		"routing": {"runtime": "quantum"},
	})
	gate_obeyed.deny == expected with input as fixture.changed({
		"outcome": {"answer": "fallback_classical"},
		"routing": {"runtime": null},
	})
}
