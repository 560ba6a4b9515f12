# METADATA
# scope: package
# title: The gate is asked and obeyed
# description: A run goes ahead as the gate's own records say; of tiers that must ask, the answer came before the routing and was about the same facts. A denial sticks to the run.
# authors: [Governance board]
# custom:
#   severity: high
#   owner: platform
#   control: QE-ADM-2
#   remediation: Have the scheduler ask the gate before it routes, with the facts that it then sends, and obey its answer; after a denial, use another run id.
#   runbook: docs/policy.md#gate_obeyed
package qethics.rules.outcome.gate_obeyed

import rego.v1

# `input.outcome.gate` is what is wrong with how the run went on, by the table of docs/admission.md.
deny contains "it is not said how the run went on" if {
	not is_array(input.outcome.gate)
}

deny contains "nobody asked the gate, or it was down" if {
	"unasked" in input.outcome.gate
	must_ask
}

deny contains "the gate was asked after the run had been routed" if {
	"asked_late" in input.outcome.gate
	must_ask
}

deny contains "the gate answered about other facts than those of the run" if {
	"other_facts" in input.outcome.gate
	must_ask
}

deny contains "the gate denied the run, and it was routed" if {
	"denied" in input.outcome.gate
}

deny contains "the gate allowed the classical path alone, and the run was routed to another" if {
	"not_classical" in input.outcome.gate
}

must_ask if input.run.tier in data.gate.tiers

must_ask if {
	not input.run.tier in data.tiers
	count(data.gate.tiers) > 0
}
