"""F4: runs cost ten times as much as before."""

from typing import Final

from simulators.scenarios.healthy import HEALTHY
from simulators.scenarios.scenario import Scenario, Seen

SCENARIO: Final = Scenario(
    name="cost-runaway",
    text="runs cost ten times as much as before",
    seen=Seen(
        failure="F4",
        alert="SpendBurnRate",
        severity="page",
        within_seconds=120,
        directive="freeze_offload",
        also=("CostDrift", "SpendBudgetEnding", "HourlyBudgetSpent"),
    ),
    **{**HEALTHY, "cost_factor": 10 * HEALTHY["cost_factor"]},
)
