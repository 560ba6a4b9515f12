"""Nothing happens and nothing is wrong: what a game day plays its failures over."""

from typing import Any, Final

from simulators.scenarios.scenario import Scenario

#: What healthy traffic is, for the scenarios that add one failure to it. Every violation is somebody's ticket, so there
#: is none; every cost center stays well within its hour.
HEALTHY: Final[dict[str, Any]] = {
    "error_scale": lambda backend, seconds: 1.0,
    "unencrypted_share": 0.0,
    "misrouted_share": 0.0,
    "unexplained_share": 0.0,
    "incomplete_share": 0.0,
    "cost_factor": 0.3,
}

SCENARIO: Final = Scenario(name="healthy", text="devices as calibrated, every rule kept; a few duplicates", **HEALTHY)
