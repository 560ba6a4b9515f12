"""F3: a scheduler sends a fifth of the runs, regulated ones among them, to an endpoint that takes no such data."""

from typing import Final

from simulators.scenarios.scenario import Scenario

SCENARIO: Final = Scenario(
    name="unauthorized-routing",
    text="a fifth of the runs is sent to an endpoint that takes no regulated data",
    error_scale=lambda backend, seconds: 1.0,
    misrouted_share=0.2,
)
