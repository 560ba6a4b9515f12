# METADATA
# scope: package
# title: No personal data in clear text
# description: A field that holds an email address, a card number or a national id in clear text is a leak, whatever the run.
# authors: [Governance board]
# custom:
#   severity: critical
#   owner: privacy
#   control: QE-PII-1
#   remediation: Replace the value by a token before the event is sent, and have the record purged from the topic.
#   runbook: docs/policy.md#no_clear_pii
package qethics.rules.text.no_clear_pii

import rego.v1

shapes := {
	"an email address": `[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+`,
	"a card number": `(^|[^0-9])[0-9]([ -]?[0-9]){12,18}([^0-9]|$)`,
	"a national id": `(^|[^0-9])[0-9]{3}-[0-9]{2}-[0-9]{4}([^0-9]|$)`,
}

deny contains reason if {
	some found in input.clear
	some shape, pattern in shapes
	regex.match(pattern, found.text)
	reason := sprintf("%s holds what looks like %s", [found.field, shape])
}
