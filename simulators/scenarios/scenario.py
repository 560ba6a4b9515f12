"""What a scenario is: how the devices behave over time, and the truth about it."""

from collections.abc import Callable

from msgspec import Struct


class Shift(Struct, frozen=True):
    """A change that was put in on purpose: what changed, where, and when it began (seconds from the start)."""

    backend: str
    signal: str
    onset_seconds: float
    text: str


class Scenario(Struct, frozen=True, kw_only=True):
    """A named course of events with its truth."""

    name: str
    text: str
    #: (backend, seconds from the start) -> factor on the calibrated gate errors.
    error_scale: Callable[[str, float], float]
    #: What a correct observer must find; empty where there is nothing to find.
    shifts: tuple[Shift, ...] = ()
    #: Shares of runs or events with a natural fault, in [0, 1].
    duplicate_share: float = 0.001
    unencrypted_share: float = 0.0003
    misrouted_share: float = 0.0002
    unexplained_share: float = 0.01
    incomplete_share: float = 0.002
