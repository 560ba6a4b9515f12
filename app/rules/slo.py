"""Service level objectives and the arithmetic of burn-rate alerts. Pure.

Multi-window, multi-burn-rate alerts as in *The Site Reliability Workbook* (Google, 2018), chapter 5: an alert fires
while both a long window and one of a twelfth of it burn the error budget faster than `factor` times the rate that
lasts, with factor = share of the budget x period / long window. Of total failure the alert comes after
factor x (1 - objective) x long window.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple

from msgspec import Meta, Struct

from app.errors import SettingError

Severity = Literal["page", "ticket"]
SEVERITIES: Final[tuple[Severity, ...]] = ("page", "ticket")
Owner = Annotated[str, Meta(min_length=1, max_length=100)]

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,3})([smhdw])\Z")
#: A counter or a part of one: what can be put into `rate(...[5m])`. No quotes inside of values, so nothing escapes.
_SELECTOR: Final = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\\n]*"(, ?)?)*\})?\Z'
)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")

#: Long window -> its short window and what an alert of it is.
WINDOWS: Final[dict[str, tuple[str, Severity]]] = {
    "1h": ("5m", "page"),
    "6h": ("30m", "page"),
    "1d": ("2h", "ticket"),
    "3d": ("6h", "ticket"),
}
#: Period -> long window -> the share of the budget that it may burn. Those of a month are the workbook's; in a week the
#: same factors would need less than a request in the short windows, so they are held by larger shares.
BUDGETS: Final[dict[str, dict[str, float]]] = {
    "30d": {"1h": 0.02, "6h": 0.05, "1d": 0.1, "3d": 0.1},
    "28d": {"1h": 0.02, "6h": 0.05, "1d": 0.1, "3d": 0.1},
    "7d": {"1h": 0.08, "6h": 0.125, "1d": 0.2, "3d": 0.42},
}


class Objective(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One objective as people write it in `slos.yaml`."""

    #: Good of valid, in (0, 1]; 1 allows nothing, and one bad event pages.
    objective: Annotated[float, Meta(gt=0, le=1)]
    owner: Owner
    #: What is said when it burns.
    summary: Annotated[str, Meta(min_length=1, max_length=200)]
    #: The counter of valid events, and that of the good or of the bad ones among them.
    valid: str
    good: str | None = None
    bad: str | None = None
    period: str = "30d"
    #: Fewer valid events than this in a long window say too little, and nothing fires.
    least_events: Annotated[int, Meta(ge=1)] = 100
    #: Without a valid event for so long there is no data, and that is said; None where events may be rare.
    silence: str | None = None
    #: Long window -> share of the budget, where it is not the usual one; 0 leaves the window out.
    budgets: dict[str, float] = {}


class Burn(NamedTuple):
    """One pair of windows."""

    long: str
    short: str
    severity: Severity
    factor: float
    #: The share of bad events above which both windows must be.
    threshold: float


class Slo(NamedTuple):
    """An objective that is known to make sense."""

    name: str
    objective: Objective
    burns: tuple[Burn, ...]

    @property
    def alert(self) -> str:
        """The name of its alerts."""
        return "".join(part.capitalize() for part in self.name.split("_")) + "BudgetBurn"

    @property
    def strict(self) -> bool:
        """Whether it allows no bad event at all."""
        return self.objective.objective == 1

    def of_severity(self, severity: Severity) -> list[Burn]:
        """The pairs of windows of a severity."""
        return [burn for burn in self.burns if burn.severity == severity]


def seconds(duration: str) -> int:
    """A duration as Prometheus writes it (`5m`, `30d`), in seconds.

    Raises
    ------
    ValueError
        If it is none.
    """
    found = _DURATION.match(duration)
    if found is None:
        raise ValueError(f"{duration!r} is no duration such as 5m, 6h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def slo(name: str, objective: Objective) -> Slo:
    """Check an objective and work out its alerts.

    Raises
    ------
    SettingError
        If it cannot be measured, or an alert of it could never fire; the arithmetic is in the error.
    """
    try:
        if not _NAME.match(name):
            raise ValueError("a name has lower-case letters, digits and _, and at most 63 of them")
        _check(objective)
        burns = () if objective.objective == 1 else tuple(_burns(objective))
    except ValueError as error:
        raise SettingError(f"slos.{name}: {error}", "correct policies/slos.yaml") from error
    return Slo(name, objective, burns)


def _check(objective: Objective) -> None:
    if (objective.good is None) == (objective.bad is None):
        raise ValueError("it needs either `good` or `bad`")
    for selector in (objective.valid, objective.good, objective.bad):
        if selector is not None and not _SELECTOR.match(selector):
            raise ValueError(f'{selector!r} is no counter such as qethics_x_total or qethics_x_total{{tier="high"}}')
    seconds(objective.period)
    if objective.silence is not None:
        seconds(objective.silence)


def _burns(objective: Objective) -> list[Burn]:
    usual = BUDGETS.get(objective.period)
    if usual is None and set(objective.budgets) != set(WINDOWS):
        raise ValueError(
            f"for a period of {objective.period} say `budgets` for {', '.join(WINDOWS)}; "
            f"they are known for {', '.join(BUDGETS)}"
        )
    shares: Mapping[str, float] = {**(usual or {}), **objective.budgets}
    unknown = set(shares) - set(WINDOWS)
    if unknown:
        raise ValueError(f"budgets: there is no window {sorted(unknown)[0]}; there are {', '.join(WINDOWS)}")
    found = [_burn(objective, long, share) for long, share in sorted(shares.items(), key=_by_length) if share]
    if not found:
        raise ValueError("with every window left out nothing would ever fire")
    return found


def _by_length(item: tuple[str, float]) -> int:
    return seconds(item[0])


def _burn(objective: Objective, long: str, share: float) -> Burn:
    if not 0 < share <= 1:
        raise ValueError(f"budgets.{long}: {share:g} is no share of a budget")
    period_hours, long_hours = seconds(objective.period) / 3600, seconds(long) / 3600
    factor = share * period_hours / long_hours
    budget = 1 - objective.objective
    threshold = factor * budget
    if threshold >= 1:
        most = long_hours / (period_hours * budget)
        raise ValueError(
            f"the alert of {long} could never fire: {share:g} of the budget x {period_hours:g} h / {long_hours:g} h is "
            f"{factor:.4g} times the rate that lasts, and {factor:.4g} x (1 - {objective.objective:g}) = "
            f"{threshold:.4g} of all events would have to be bad; the most there can be is 1, a rate of "
            f"{1 / budget:.4g}. "
            f"Set budgets.{long} below {most:.4g}, or to 0 to leave it out"
        )
    short, severity = WINDOWS[long]
    return Burn(long, short, severity, factor, threshold)
