"""How fast money is spent: every cost center's burn rate against its own baseline and its budget (M9, F4).

Charges are put into bins of ten seconds by the time they are of, not by the time they come: billing lags, and a bill of
an hour that comes at once is no run of a minute. Every minute that something was charged to since the last look is
judged, the oldest first, so a lag delays an alert by the lag and changes no rate, and a peak within a bill of an hour
is found as one that was billed as it happened. A correction changes the bin it is of.

Several charges of the very same instant are a bill, and are spread over the time since the bill before. A correction
takes back from its own bin, and what is left from the latest earlier one that had as much; a credit for what nobody
remembers makes no hour look cheaper than it was.

The baseline is what the same cost center spent in the hour before a minute, without what paged. A rate pages when
it is at least `factor` times the baseline *and* chance makes as much less than three times in ten million. The total of
a minute is a compound Poisson sum; it is taken for a Poisson number of charges of one size that has the same mean and
variance, sum x^2 / sum x. Of so many charges in minute and baseline together, those in the minute are then binomial
(Przyborowski and Wilenski 1940), whatever the true rate: a baseline of few charges is not taken for known. A minute of
a bill says no more than the bill: it counts with all the charges and all the time that the bill is of.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from math import ceil
from typing import Final, NamedTuple

from msgspec import Struct, field, structs
from scipy.special import bdtrc

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
#: What a bill may be of beside what was billed as it happened: its minutes need an hour before them as well.
_LATE_BINS: Final = int(HOUR_SECONDS) // BIN_SECONDS
#: Charges of the same instant that are a bill, however many come as they are made.
_BILL: Final = 10
#: The billing lag shown is a mean with this weight on the newest charge.
_LAG_WEIGHT: Final = 0.002


class Bin(Struct, array_like=True):
    """What was charged in ten seconds; corrections included."""

    microdollars: int = 0
    #: What was charged before corrections, the sum of its squares (dollars squared), and what was charged with each
    #: charge times the windows that it is spread over: a part of a bill is seen again in all of them.
    gross: int = 0
    squares: float = 0.0
    stretched: float = 0.0
    #: Whether it was part of a rate that paged: it is no baseline then.
    hot: bool = False

    def add(self, microdollars: int, parts: int, window: int) -> None:
        """Take in a charge, or a `parts`-th of one; a rate is that of `window` bins."""
        amount = round(microdollars / parts)
        self.microdollars += amount
        if amount > 0:
            self.gross += amount
            self.squares += (microdollars / 1e6) ** 2 / parts
            self.stretched += amount * max(1.0, parts / window)

    def take_back(self, microdollars: int) -> None:
        """Undo that a charge was taken in."""
        self.microdollars -= microdollars
        if microdollars > 0:
            self.gross -= microdollars
            self.squares = max(0.0, self.squares - (microdollars / 1e6) ** 2)
            self.stretched -= microdollars

    @property
    def net(self) -> int:
        """What is left of it after corrections, in microdollars; >= 0."""
        return max(self.microdollars, 0)

    @property
    def net_squares(self) -> float:
        """The squares of what is left, as if every charge had been corrected alike."""
        return self.squares * (self.net / self.gross) ** 2 if self.gross else 0.0


class Center(Struct, array_like=True):
    """The last two hours of a cost center."""

    #: Time since the epoch in bins -> what was charged in it.
    bins: dict[int, Bin] = field(default_factory=dict)
    first: int = 0
    newest: int = 0
    lag_seconds: float = 0.0
    #: The bins that something was charged to since they were last looked at.
    charged: set[int] = field(default_factory=set)
    #: The bin that it was in when its earlier minutes were last judged.
    judged: int = 0
    #: The instant of the last charge, the first charges of it, the instant before, and those of the last two bills.
    instant: float = 0.0
    same: list[int] = field(default_factory=list)
    instant_before: float = 0.0
    bill: float = 0.0
    bill_before: float = 0.0


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
        """Take in a charge, or a correction of one, heard of at `now` (seconds since the epoch; 0 if not known yet).

        One that is dated ahead, by the end of what it bills, say, is one of now.
        """
        if not now:
            return
        at = min(spending.at, now)
        place, kept = int(at // BIN_SECONDS), _bins(spend.window_seconds + spend.baseline_seconds)
        lag = max(0.0, now - at)
        one = self.centers.get(spending.cost_center)
        if one is None or place - one.newest > kept:
            # Of the time before, of which more may come, and of a stretch in which nothing was billed nobody knows what
            # was usual.
            begin = max(place, int(now // BIN_SECONDS))
            one = self.centers[spending.cost_center] = Center(first=begin, newest=begin, lag_seconds=lag)
        one.lag_seconds += _LAG_WEIGHT * (lag - one.lag_seconds)
        self._put(one, at, spending.microdollars, kept, _bins(spend.window_seconds))
        if place > one.newest:
            one.newest = place
            one.first = max(one.first, place - kept - _LATE_BINS + 1)
            for old in [each for each in one.bins if each < one.first]:
                del one.bins[old]

    def _put(self, one: Center, at: float, microdollars: int, kept: int, window: int) -> None:
        """Put a charge into its bin; if it is of a bill, into those since the bill before."""
        place = int(at // BIN_SECONDS)
        if at != one.instant:
            one.instant, one.instant_before, one.same = at, one.instant, []
        if at == one.bill:
            _add(one, place, microdollars, _parts(one, kept), window)
            return
        _add(one, place, microdollars, 1, window)
        one.same.append(microdollars)
        # Of charges that come as they are made some share an instant by chance.
        is_sparse = at - one.instant_before > window * BIN_SECONDS
        if at < one.bill or len(one.same) < (2 if is_sparse else _BILL):
            return
        # A charge alone with its instant is a bill as well, where they are sparse.
        one.bill, one.bill_before = at, max(one.bill, one.instant_before if is_sparse else 0.0)
        parts = _parts(one, kept)
        if parts > 1 and place >= one.first:
            for each in one.same:
                one.bins[place].take_back(each)
                _add(one, place, each, parts, window)

    def tick(
        self, now: float, watched: float, alerting: Alerting, budgets: Mapping[str, float]
    ) -> Iterator[tuple[Alert, Directive | Lifted]]:
        """What is to be said at `now` (seconds since the epoch; `watched`: seconds watched): alerts and orders."""
        for center, one in self.centers.items():
            if not one.charged:
                continue
            _corrected(one)
            place, hottest, base = self._judged(center, one, now, alerting.spend, budgets.get(center, 0.0))
            if hottest is not None:
                yield from self._hot(center, place, hottest, now, watched)
            elif base is None and center in self.conditions.standing:
                # Of what was before it, nothing is left to compare with.
                yield self._accepted(center, one, now)
        later = partial(self._unbilled_seconds, alerting.spend)
        for center, alert in self.conditions.quiet(watched, now, alerting.quiet_seconds, later):
            yield alert, Lifted(FREEZE_OFFLOAD, center)

    def _unbilled_seconds(self, spend: SpendWatch, center: str) -> float:
        """How much longer than others to wait for news: while the last minute billed paged, the next bill will tell."""
        one = self.centers.get(center)
        if one is None or one.newest not in one.bins or not one.bins[one.newest].hot:
            return 0.0
        period = _parts(one, _bins(spend.window_seconds + spend.baseline_seconds)) * BIN_SECONDS
        return max(3 * one.lag_seconds, 2 * period)

    def _judged(
        self, center: str, one: Center, now: float, spend: SpendWatch, budget_usd: float
    ) -> tuple[int, Rate | None, float | None]:
        """Judge every minute that has changed: the last bin of the worst that pages, its rate, and today's baseline.

        Those before the newest, of which there are many where charges come late, once in ten seconds.
        """
        window, ends = range(_bins(spend.window_seconds)), set[int]()
        if int(now // BIN_SECONDS) > one.judged:
            ends = {min(place + later, one.newest) for place in one.charged if place >= one.first for later in window}
            one.charged, one.judged = set(), int(now // BIN_SECONDS)
        worst, hottest, rate = one.newest, None, None
        for end in sorted(ends | {one.newest}):
            found = one.bins.get(end)
            if found is not None and found.hot and end < one.newest:
                continue  # it paged when it was new; a correction of it is no second peak
            rate = self.rate(center, spend, budget_usd, end)
            base = rate.baseline_usd_per_hour
            if base is None or rate.usd_per_hour < spend.factor * base or rate.chance >= _CHANCE:
                continue
            # Bins in which nothing was charged as well: a bill by the minute leaves five of six empty, and as cool time
            # they would make the baseline ever smaller.
            for later in window:
                if end - later >= one.first:
                    one.bins.setdefault(end - later, Bin()).hot = True
            if hottest is None or rate.usd_per_hour > hottest.usd_per_hour:
                worst, hottest = end, rate
        return worst, hottest, rate.baseline_usd_per_hour if rate is not None else None

    def _hot(
        self, center: str, place: int, rate: Rate, now: float, watched: float
    ) -> Iterator[tuple[Alert, Directive | Lifted]]:
        base = rate.baseline_usd_per_hour or 0.0
        text = (
            f"{center} spends {rate.usd_per_hour:.4g} dollars an hour, {rate.usd_per_hour / base:.1f} times its usual"
        )
        alert = self.conditions.take(
            center,
            {"cost_center": center},
            text,
            severity="page",
            position=(place, f"{now:.3f}"),
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

    def accept(self, center: str, at: float) -> Alert | None:
        """Let the baseline of a cost center be learned anew, from what comes next; the end of its alert, if it has one.

        Parameters
        ----------
        center
            The cost center.
        at
            What the log has reached, seconds since the epoch.
        """
        self.centers.pop(center, None)
        if center not in self.conditions.standing:
            return None
        return self.conditions.end(center, at, "a new baseline was asked for")

    def rate(self, center: str, spend: SpendWatch, budget_usd: float, end: int | None = None) -> Rate:
        """The burn rate of a cost center beside its baseline.

        Parameters
        ----------
        center
            One that something was charged to.
        spend
            Window, baseline, and the share of the budget that a baseline is at least.
        budget_usd
            Its budget an hour; 0 of one that has none.
        end
            The last bin of the window; the newest without.
        """
        one = self.centers[center]
        end = one.newest if end is None else end
        edge = end - _bins(spend.window_seconds)
        begin = max(one.first, edge - _bins(spend.baseline_seconds) + 1)
        recent = [one.bins[place] for place in range(edge + 1, end + 1) if place in one.bins]
        before = [one.bins[place] for place in range(begin, edge + 1) if place in one.bins]
        cool = [found for found in before if not found.hot]
        burnt = sum(found.net for found in recent) / 1e6
        usd_per_hour = burnt / spend.window_seconds * HOUR_SECONDS
        seconds = (edge - begin + 1 - (len(before) - len(cool))) * BIN_SECONDS
        if seconds < spend.learn_seconds:
            return Rate(usd_per_hour, None)
        mean = sum(found.net for found in cool) / 1e6 / seconds
        base = max(mean, spend.floor_share * budget_usd / HOUR_SECONDS)
        if base <= 0:
            return Rate(usd_per_hour, None)
        if usd_per_hour < spend.factor * base * HOUR_SECONDS:
            return Rate(usd_per_hour, base * HOUR_SECONDS)  # of what is no peak nobody asks how likely it is
        total = sum(found.net for found in (*cool, *recent)) / 1e6
        squares = sum(found.net_squares for found in (*cool, *recent))
        size = squares / total
        windows = sum(found.stretched for found in recent) / sum(found.gross for found in recent)
        here, before_it = ceil(burnt * windows / size), ceil(base * seconds / size)
        share = windows * spend.window_seconds / (windows * spend.window_seconds + seconds)
        chance = float(bdtrc(here - 1, here + before_it, share))
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


def _parts(one: Center, kept: int) -> int:
    """Over how many bins the last bill is spread: those since the one before, of an hour at most."""
    return max(1, min(_bins(one.bill - one.bill_before), kept))


def _add(one: Center, place: int, microdollars: int, parts: int, window: int) -> None:
    """Put a charge into so many bins up to one; what is too old, or of a time whose rest is not known, counts not."""
    for part in range(max(one.first, place - parts + 1), place + 1):
        one.bins.setdefault(part, Bin()).add(microdollars, parts, window)
        one.charged.add(part)


def _corrected(one: Center) -> None:
    """Take what corrections took from bins that had less back from the latest earlier ones that had as much."""
    for place in sorted(one.charged):
        found = one.bins.get(place)
        if found is None or found.microdollars >= 0:
            continue
        owed, found.microdollars = -found.microdollars, 0
        for earlier in range(place - 1, one.first - 1, -1):
            other = one.bins.get(earlier)
            if other is not None and other.microdollars >= owed:
                other.microdollars -= owed
                break


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
