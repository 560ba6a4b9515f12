# METADATA
# scope: package
# title: The gate is asked and obeyed
# description: A run goes ahead as the gate's own record of its answer says; of tiers that must ask, one nobody asked about went round the gate, or it was down.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: platform
#   control: QE-ADM-2
#   remediation: Have the scheduler ask the gate, and obey its answer; look for when the gate was down.
#   runbook: docs/policy.md#gate_obeyed
package qethics.rules.outcome.gate_obeyed

import rego.v1

deny contains "nobody asked the gate, or it was down" if {
	input.outcome.routed == true
	not is_string(input.outcome.answer)
	must_ask
}

deny contains "the gate denied the run, and it was routed" if {
	input.outcome.routed == true
	input.outcome.answer == "deny"
}

deny contains "the gate allowed the classical path alone, and the run was routed to another" if {
	input.outcome.routed == true
	input.outcome.answer == "fallback_classical"
	not input.routing.runtime == "classical"
}

must_ask if input.run.tier in data.gate.tiers

must_ask if {
	not input.run.tier in data.tiers
	count(data.gate.tiers) > 0
}
