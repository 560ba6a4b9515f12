# METADATA
# scope: package
# title: The decision
# description: Gathers what the rules about what is judged deny. `decision` is total; what a rule denies is not allowed, and a rule whose `deny` is no set denies.
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

violations contains {"rule": rule, "reason": no_set} if {
	"run" in input.judging
	some rule, found in data.qethics.rules.run
	not answers(found)
}

violations contains {"rule": rule, "reason": no_set} if {
	"routing" in input.judging
	some rule, found in data.qethics.rules.routing
	not answers(found)
}

violations contains {"rule": rule, "reason": no_set} if {
	"decision" in input.judging
	some rule, found in data.qethics.rules.decision
	not answers(found)
}

violations contains {"rule": rule, "reason": no_set} if {
	"outcome" in input.judging
	some rule, found in data.qethics.rules.outcome
	not answers(found)
}

violations contains {"rule": rule, "reason": no_set} if {
	"text" in input.judging
	some rule, found in data.qethics.rules.text
	not answers(found)
}

# By a function: OPA looks a reference in a negated call up before the negation, so of what is undefined it says nothing.
answers(found) if is_set(found.deny)

no_set := "what the rule denies is undefined, or no set: it gives no answer, and that means deny"

default decision := {"allow": false, "violations": []}

decision := {"allow": count(violations) == 0, "violations": violations}
