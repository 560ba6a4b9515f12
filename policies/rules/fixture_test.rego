# A run of high tier that breaks no rule, and how tests change it.
package qethics_test.fixture

import rego.v1

declared := {
	"workload": "scoring",
	"purpose": "deciding",
	"tier": "high",
	"sensitivity": "regulated",
	"runtime": "hybrid",
	"submitter": "svc",
	"cost_center": "lending",
	"feature": null,
	"consent": {"granted": true, "scopes": ["deciding", "third-party-compute"]},
	"encrypted": true,
	"shots": 1000,
	"canary": false,
	"canary_share": null,
	"fallback": "classical",
	"deadline_seconds": null,
	"tokenised": true,
	"material": ["code_digest", "circuit_digest", "inputs_digest", "environment_digest", "seed"],
	"estimated_cost_usd": 1.5,
}

sent := {"provider": "ibm", "endpoint": "here", "region": "home", "backend": "ibm_fez", "runtime": "hybrid"}

decided := {"explained": true, "acted_on": true}

ended := {
	"routed": true,
	"admitted": true,
	"decided": true,
	"acted_on": true,
	"reviewed_first": true,
	"provider": "ibm",
	"backend": "ibm_fez",
	"signed": false,
	"calibration_age_hours": 5,
	"answer": null,
	"gate": [],
	"rejected": false,
	"completed": true,
	"billed": true,
}

document := {
	"judging": ["run", "routing", "decision", "outcome", "text"],
	"run": declared,
	"routing": sent,
	"decision": decided,
	"outcome": ended,
	"clear": [],
}

# Changes are laid over the document as a patch: parts of `run`, of `routing`, and so on.
changed(changes) := object.union(document, changes)

run(changes) := changed({"run": changes})
