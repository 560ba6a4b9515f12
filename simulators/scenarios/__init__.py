"""Scenarios by name. To add one: its file, and its line here."""

from typing import Final

from simulators.scenarios import (
    cost_runaway,
    fidelity_collapse,
    fidelity_drift,
    healthy,
    latency_pileup,
    misrouting,
    provenance_gap,
    replay_corruption,
    steady,
    unauthorized_routing,
)
from simulators.scenarios.scenario import Scenario, Seen

SCENARIOS: Final[dict[str, Scenario]] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        steady,
        healthy,
        fidelity_drift,
        unauthorized_routing,
        provenance_gap,
        fidelity_collapse,
        misrouting,
        cost_runaway,
        latency_pileup,
        replay_corruption,
    )
}

#: The contract's failure modes, F1 to F6, over healthy traffic.
FAILURES: Final[dict[str, Scenario]] = {
    scenario.seen.failure: scenario for scenario in SCENARIOS.values() if scenario.seen is not None
}

__all__ = ["FAILURES", "SCENARIOS", "Scenario", "Seen"]
