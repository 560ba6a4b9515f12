"""F1: events of one producer are lost on the way, three in ten."""

from typing import Final

from simulators.scenarios.healthy import HEALTHY
from simulators.scenarios.scenario import Scenario, Seen

SCENARIO: Final = Scenario(
    name="provenance-gap",
    text="three in ten events of the producer `billing` never arrive",
    lost_shares={"billing": 0.3},
    seen=Seen(
        failure="F1",
        alert="ProvenanceGap",
        severity="ticket",
        within_seconds=90,
        directive=None,
        also=("ProvenanceCompletenessBudgetBurn",),
    ),
    **HEALTHY,
)
