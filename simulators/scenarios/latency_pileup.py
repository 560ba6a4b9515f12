"""F5: a backend slows down, its queue grows, and some of its runs time out."""

from typing import Final

from simulators.scenarios.healthy import HEALTHY
from simulators.scenarios.scenario import Scenario, Seen

BACKEND: Final = "ibm_brisbane"

SCENARIO: Final = Scenario(
    name="latency-pileup",
    text=f"runs wait twenty times as long for {BACKEND}, and one in ten of them times out",
    queue_factors={BACKEND: 20.0},
    timed_out_shares={BACKEND: 0.1},
    seen=Seen(
        failure="F5",
        alert="QueuePileup",
        severity="page",
        within_seconds=60,
        directive="fallback_classical",
        also=("QueueDrift",),
    ),
    **HEALTHY,
)
