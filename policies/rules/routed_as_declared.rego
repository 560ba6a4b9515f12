# METADATA
# scope: package
# title: A classical run goes to classical computers
# description: A run that declares itself classical is judged as one; sent to a quantum computer it has gone round what is asked of those.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: platform
#   control: QE-ROUTE-4
#   remediation: Declare the run as quantum or hybrid, or route it to a classical computer.
#   runbook: docs/policy.md#routed_as_declared
package qethics.rules.routing.routed_as_declared

import rego.v1

deny contains "the run is declared classical and it is not said that it is sent to a classical computer" if {
	input.run.runtime == "classical"
	not is_string(input.routing.runtime)
}

deny contains reason if {
	input.run.runtime == "classical"
	is_string(input.routing.runtime)
	input.routing.runtime != "classical"
	reason := sprintf("the run is declared classical and sent to a %s computer", [input.routing.runtime])
}
