# METADATA
# scope: package
# title: The decision
# description: Gathers what every rule denies. `decision` is total; a run is allowed only where nothing denies it.
package qethics

import rego.v1

violations contains {"rule": rule, "reason": reason} if {
	some rule, reason
	data.qethics.rules[rule].deny[reason]
}

default decision := {"allow": false, "violations": []}

decision := {"allow": count(violations) == 0, "violations": violations}
