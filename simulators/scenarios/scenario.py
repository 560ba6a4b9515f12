"""What a scenario is: how the devices behave over time, and the truth about it."""

from collections.abc import Callable, Mapping

from msgspec import Struct


class Shift(Struct, frozen=True):
    """A change that was put in on purpose: what changed, where, and when it began (seconds from the start)."""

    backend: str
    signal: str
    onset_seconds: float
    text: str


class Seen(Struct, frozen=True, kw_only=True):
    """What people must be told of a failure, how soon after its first bad event, and what a scheduler is ordered.

    So the contract has it; nothing here says how it is found.
    """

    failure: str
    alert: str
    severity: str
    within_seconds: float
    directive: str | None
    #: Alerts that follow from the same failure, and are right.
    also: tuple[str, ...] = ()
    #: For how long a game day lets it go on.
    lasts_seconds: float = 20.0


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
    #: Producer -> the share of its events that are lost on the way.
    lost_shares: Mapping[str, float] = {}
    #: Factor on what runs cost.
    cost_factor: float = 1.0
    #: Backend -> factor on how long runs wait for it, and the share of its runs that time out.
    queue_factors: Mapping[str, float] = {}
    timed_out_shares: Mapping[str, float] = {}
    #: Whether a replay gives something else than its original.
    replays_diverge: bool = False
    #: What must be seen of it; None where it is no failure of the contract's.
    seen: Seen | None = None
