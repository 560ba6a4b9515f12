"""F2, stochastic drift: the gate errors of one device ramp up to six times their calibrated value."""

from typing import Final

from simulators.scenarios.scenario import Scenario, Shift

BACKEND: Final = "ibm_fez"
ONSET_SECONDS: Final = 10.0
RAMP_SECONDS: Final = 5.0
PEAK: Final = 6.0


def error_scale(backend: str, seconds: float) -> float:
    """1 until the onset, then a straight line to the peak, then the peak."""
    if backend != BACKEND:
        return 1.0
    return 1.0 + (PEAK - 1.0) * min(1.0, max(0.0, (seconds - ONSET_SECONDS) / RAMP_SECONDS))


SCENARIO: Final = Scenario(
    name="fidelity-drift",
    text=f"the gate errors of {BACKEND} rise to {PEAK:.0f} times their calibrated value from {ONSET_SECONDS:.0f} s on",
    error_scale=error_scale,
    shifts=(Shift(BACKEND, "fidelity", ONSET_SECONDS, "gate errors ramp up"),),
)
