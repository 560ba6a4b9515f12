"""F2: the gate errors of one device rise to sixteen times their calibrated value within seconds."""

from typing import Final

from simulators.scenarios.healthy import HEALTHY
from simulators.scenarios.scenario import Scenario, Seen, Shift

BACKEND: Final = "ibm_fez"
RAMP_SECONDS: Final = 2.0
PEAK: Final = 16.0


def error_scale(backend: str, seconds: float) -> float:
    """From the beginning on a straight line to the peak, then the peak."""
    return 1.0 if backend != BACKEND else 1.0 + (PEAK - 1.0) * min(1.0, seconds / RAMP_SECONDS)


SCENARIO: Final = Scenario(
    name="fidelity-collapse",
    text=f"the gate errors of {BACKEND} rise to {PEAK:.0f} times their calibrated value",
    shifts=(Shift(BACKEND, "fidelity", 0.0, "gate errors rise"),),
    seen=Seen(
        failure="F2",
        alert="FidelityCollapse",
        severity="page",
        within_seconds=60,
        directive="fallback_classical",
        # Runs of the bad device are replayed when it is well again, and do not match.
        also=(
            "FidelityDrift",
            "ErrorRateDrift",
            "DistributionDrift",
            "FidelityVarianceBudgetBurn",
            "ReplayDivergence",
            "ReproducibilityBudgetBurn",
        ),
    ),
    **{**HEALTHY, "error_scale": error_scale},
)
