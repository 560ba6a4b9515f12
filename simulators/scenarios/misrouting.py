"""F3 over healthy traffic: a scheduler sends a fifth of the runs to an endpoint that takes no regulated data."""

from typing import Final

from simulators.scenarios.healthy import HEALTHY
from simulators.scenarios.scenario import Scenario, Seen

SCENARIO: Final = Scenario(
    name="misrouting",
    text="a fifth of the runs is sent to an endpoint that takes no regulated data",
    seen=Seen(
        failure="F3",
        alert="UnauthorizedRouting",
        severity="page",
        within_seconds=2,
        directive="disable_routing",
        also=("PolicyViolation", "AuthorizedRoutingBudgetBurn", "PolicyConformanceBudgetBurn"),
        lasts_seconds=8.0,
    ),
    **{**HEALTHY, "misrouted_share": 0.2},
)
