# METADATA
# scope: package
# title: The decision
# description: Gathers what the rules about what is judged deny. `decision` is total; what a rule denies is not allowed.
package qethics

import rego.v1

violations contains {"rule": rule, "reason": reason} if {
	"run" in input.judging
	some rule, reason
	data.qethics.rules.run[rule].deny[reason]
}

violations contains {"rule": rule, "reason": reason} if {
	"routing" in input.judging
	some rule, reason
	data.qethics.rules.routing[rule].deny[reason]
}

violations contains {"rule": rule, "reason": reason} if {
	"decision" in input.judging
	some rule, reason
	data.qethics.rules.decision[rule].deny[reason]
}

violations contains {"rule": rule, "reason": reason} if {
	"outcome" in input.judging
	some rule, reason
	data.qethics.rules.outcome[rule].deny[reason]
}

violations contains {"rule": rule, "reason": reason} if {
	"text" in input.judging
	some rule, reason
	data.qethics.rules.text[rule].deny[reason]
}

default decision := {"allow": false, "violations": []}

decision := {"allow": count(violations) == 0, "violations": violations}
