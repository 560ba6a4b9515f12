"""Scenarios by name. To add one: its file, and its line here."""

from typing import Final

from simulators.scenarios import fidelity_drift, steady, unauthorized_routing
from simulators.scenarios.scenario import Scenario

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario for scenario in (steady.SCENARIO, fidelity_drift.SCENARIO, unauthorized_routing.SCENARIO)
}

__all__ = ["SCENARIOS", "Scenario"]
