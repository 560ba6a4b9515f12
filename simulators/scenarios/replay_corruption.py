"""F6: replays give something else than the runs that they repeat."""

from typing import Final

from simulators.scenarios.healthy import HEALTHY
from simulators.scenarios.scenario import Scenario, Seen

SCENARIO: Final = Scenario(
    name="replay-corruption",
    text="replays give other outcomes than the runs that they repeat",
    replays_diverge=True,
    seen=Seen(
        failure="F6",
        alert="ReplayDivergence",
        severity="ticket",
        within_seconds=60,
        directive=None,
        also=("ReproducibilityBudgetBurn",),
        lasts_seconds=15.0,
    ),
    **HEALTHY,
)
