"""How fast money is spent: every cost center's burn rate against its own baseline and its budget (M9, F4).

Charges are put into bins of ten seconds by the time they are of, not by the time they come: billing lags, and a bill of
an hour that comes at once is no run of a minute. The rate is that of the last minute up to the newest charge of the
cost center, so a constant lag delays an alert by the lag and changes no rate. A correction changes the bin it is of.

The baseline is what the same cost center spent in the hour before that minute, without what paged. A rate pages when
it is at least `factor` times the baseline *and* chance makes as much of the baseline less than three times in ten
million. The total of a minute is a compound Poisson sum; it is taken for a Poisson number of charges of one size that
has the same mean and variance, sum x^2 / sum x, whose tail is known exactly. A few large charges an hour are no peak.
"""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Final, NamedTuple

from msgspec import Struct, field, structs
from scipy import stats

from app.conventions import FREEZE_OFFLOAD, SPEND_BURN_ALERT
from app.core.budget import HOUR_SECONDS
from app.core.catalog import Alerting, SpendWatch
from app.core.conditions import Conditions
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert, Directive, Lifted, Spending

BIN_SECONDS: Final = 10
#: What chance makes less often than five standard deviations of a normal variable is no chance.
_CHANCE: Final = 2.9e-7
_ORDER_SECONDS: Final = 3_600.0
#: A charge dated further ahead of the log's clock than this is not of now.
_AHEAD_SECONDS: Final = 60.0
#: The billing lag shown is a mean with this weight on the newest charge.
_LAG_WEIGHT: Final = 0.002


class Bin(Struct, array_like=True):
    """What was charged in ten seconds; corrections included."""

    microdollars: int = 0
    #: Sum of squared charges, in dollars squared; a correction takes its own back.
    squares: float = 0.0
    #: Whether it was part of a rate that paged: it is no baseline then.
    hot: bool = False


class Center(Struct, array_like=True):
    """The last hour of a cost center."""

    #: Time since the epoch in bins -> what was charged in it.
    bins: dict[int, Bin] = field(default_factory=dict)
    first: int = 0
    newest: int = 0
    lag_seconds: float = 0.0
    #: Whether something was charged since it was last looked at.
    fresh: bool = False


class Rate(NamedTuple):
    """A burn rate and its baseline, both in dollars an hour, and the chance of as much at the baseline."""

    usd_per_hour: float
    #: None while there is too little to tell.
    baseline_usd_per_hour: float | None
    chance: float = 1.0


class Burn(Struct, array_like=True):
    """The cost centers of one partition."""

    centers: dict[str, Center] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=lambda: Conditions(SPEND_BURN_ALERT))

    def take(self, spending: Spending, now: float, spend: SpendWatch) -> None:
        """Take in a charge, or a correction of one, heard of at `now` (seconds since the epoch)."""
        if spending.at > now + _AHEAD_SECONDS:
            return  # not yet: the hours' budgets have it
        place, kept = int(spending.at // BIN_SECONDS), _bins(spend.window_seconds + spend.baseline_seconds)
        one = self.centers.get(spending.cost_center)
        if one is None or place - one.newest > kept:
            # Of a stretch in which nothing was billed nobody knows what was usual.
            lag = max(0.0, now - spending.at)
            one = self.centers[spending.cost_center] = Center(first=place, newest=place, lag_seconds=lag)
        if place <= one.newest - kept or place < one.first:
            return  # too old, or of a time of which the rest is not known
        found = one.bins.setdefault(place, Bin())
        usd = spending.microdollars / 1e6
        found.microdollars += spending.microdollars
        found.squares = max(0.0, found.squares + (usd * usd if usd > 0 else -usd * usd))
        one.fresh = True
        one.lag_seconds += _LAG_WEIGHT * (max(0.0, now - spending.at) - one.lag_seconds)
        if place > one.newest:
            one.newest = place
            one.first = max(one.first, place - kept + 1)
            for old in [each for each in one.bins if each < one.first]:
                del one.bins[old]

    def tick(
        self, now: float, watched: float, alerting: Alerting, budgets: Mapping[str, float]
    ) -> Iterator[tuple[Alert, Directive | Lifted]]:
        """What is to be said at `now` (seconds since the epoch; `watched`: seconds watched): alerts and orders."""
        for center, one in self.centers.items():
            if not one.fresh:
                continue
            one.fresh = False
            rate = self.rate(center, alerting.spend, budgets.get(center, 0.0))
            base = rate.baseline_usd_per_hour
            if base is None:
                if center in self.conditions.standing:  # of what was before it, nothing is left to compare with
                    yield self._accepted(center, one, now)
            elif rate.usd_per_hour >= alerting.spend.factor * base and rate.chance < _CHANCE:
                yield from self._hot(center, one, rate, now, watched, alerting.spend)
        for center, alert in self.conditions.quiet(watched, now, alerting.quiet_seconds):
            yield alert, Lifted(FREEZE_OFFLOAD, center)

    def _hot(
        self, center: str, one: Center, rate: Rate, now: float, watched: float, spend: SpendWatch
    ) -> Iterator[tuple[Alert, Directive | Lifted]]:
        # Those in which nothing was charged as well: a bill by the minute leaves five of six empty, and as cool time
        # they would make the baseline ever smaller.
        for place in range(max(one.first, one.newest - _bins(spend.window_seconds) + 1), one.newest + 1):
            one.bins.setdefault(place, Bin()).hot = True
        base = rate.baseline_usd_per_hour or 0.0
        text = (
            f"{center} spends {rate.usd_per_hour:.4g} dollars an hour, {rate.usd_per_hour / base:.1f} times its usual"
        )
        alert = self.conditions.take(
            center,
            {"cost_center": center},
            text,
            severity="page",
            position=(one.newest, f"{now:.3f}"),
            at=now,
            watched=watched,
        )
        if alert is not None:
            figures = {"usd_per_hour": rate.usd_per_hour, "baseline_usd_per_hour": base}
            yield structs.replace(alert, figures=figures), _freeze(center, text, now, alert.alert_id)

    def _accepted(self, center: str, one: Center, now: float) -> tuple[Alert, Directive | Lifted]:
        for found in one.bins.values():
            found.hot = False
        alert = self.conditions.end(center, now, "it has lasted so long that it is the new baseline")
        return alert, Lifted(FREEZE_OFFLOAD, center)

    def rate(self, center: str, spend: SpendWatch, budget_usd: float) -> Rate:
        """The burn rate of a cost center beside its baseline.

        Parameters
        ----------
        center
            One that something was charged to.
        spend
            Window, baseline, and the share of the budget that a baseline is at least.
        budget_usd
            Its budget an hour; 0 of one that has none.
        """
        one = self.centers[center]
        edge = one.newest - _bins(spend.window_seconds)
        burnt = sum(found.microdollars for place, found in one.bins.items() if place > edge) / 1e6
        before = [found for place, found in one.bins.items() if place <= edge]
        cool = [found for found in before if not found.hot]
        usd_per_hour = burnt / spend.window_seconds * HOUR_SECONDS
        seconds = (edge - one.first + 1 - (len(before) - len(cool))) * BIN_SECONDS
        if seconds < spend.learn_seconds:
            return Rate(usd_per_hour, None)
        mean = sum(found.microdollars for found in cool) / 1e6 / seconds
        base = max(mean, spend.floor_share * budget_usd / HOUR_SECONDS)
        if base <= 0:
            return Rate(usd_per_hour, None)
        recent = [found for place, found in one.bins.items() if place > edge]
        total = sum(max(found.microdollars, 0) for found in (*cool, *recent)) / 1e6
        squares = sum(found.squares for found in (*cool, *recent))
        if total <= 0 or squares <= 0:
            return Rate(usd_per_hour, base * HOUR_SECONDS)
        size = squares / total
        expected = base * spend.window_seconds / size
        chance = float(stats.poisson.sf(ceil(burnt / size) - 1, expected))
        return Rate(usd_per_hour, base * HOUR_SECONDS, chance)

    def is_silent(self, center: str, now: float, spend: SpendWatch) -> bool:
        """Whether nothing was billed for so long that the last rate says nothing of now."""
        one = self.centers[center]
        return now - one.newest * BIN_SECONDS > spend.window_seconds + 3 * one.lag_seconds + BIN_SECONDS


def budget_ends_at(spent_usd: float, budget_usd: float, usd_per_hour: float, now: float) -> float | None:
    """When an hour's budget will be spent at a rate, seconds since the epoch; None if nothing is being spent.

    It may lie beyond the hour: then the budget lasts.
    """
    if spent_usd >= budget_usd:
        return now
    return now + (budget_usd - spent_usd) / usd_per_hour * HOUR_SECONDS if usd_per_hour > 0 else None


def _bins(seconds: float) -> int:
    return int(seconds // BIN_SECONDS)


def _freeze(center: str, text: str, at: float, alert_id: str) -> Directive:
    return Directive(
        directive_id=outcome_id("directive", FREEZE_OFFLOAD, center, alert_id),
        directive=FREEZE_OFFLOAD,
        target=center,
        reason=text,
        issued_at=instant(at),
        expires_at=instant(at + _ORDER_SECONDS),
    )
