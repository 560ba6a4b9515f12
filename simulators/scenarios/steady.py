"""Nothing happens: devices stay as calibrated, with the small faults that any real traffic has."""

from typing import Final

from simulators.scenarios.scenario import Scenario

SCENARIO: Final = Scenario(
    name="steady",
    text="devices as calibrated; a few duplicates, unexplained decisions and policy violations",
    error_scale=lambda backend, seconds: 1.0,
)
