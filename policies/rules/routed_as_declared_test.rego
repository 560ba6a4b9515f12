package qethics_test.routed_as_declared

import rego.v1

import data.qethics.rules.routing.routed_as_declared
import data.qethics_test.fixture

denied(run, routing) := reasons if {
	reasons := routed_as_declared.deny with input as fixture.changed({
		"run": {"runtime": run},
		"routing": {"runtime": routing},
	})
}

test_as_declared if {
	denied("classical", "classical") == set()
	denied("quantum", "quantum") == set()
	denied("hybrid", "classical") == set()
}

test_not_said if {
	denied("classical", null) == {"the run is declared classical and it is not said that it is sent to a classical computer"}
	denied("quantum", null) == set()
}

test_sent_elsewhere if {
	denied("classical", "quantum") == {"the run is declared classical and sent to a quantum computer"}
}
