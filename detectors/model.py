"""What a model of a stream is: a null law with a grid of alternatives, as likelihood ratios."""

from math import sqrt
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, stdtrit

Floats = NDArray[np.float64]

#: Likelihood ratios are cut at exp of this, which keeps them valid (a smaller one is still an e-value) and finite.
_MAX_EXPONENT: Final = 50.0
#: Unbiased estimates of a proportion may lie this far outside [0, 1]; what is further out is refused.
_OUTSIDE: Final = 0.25
#: Beyond this a value's square would not be finite.
_LARGEST: Final = 1e150


class Moments(NamedTuple):
    """What is known of observations that a baseline is learned from.

    Of observations (count, of) it is count / of that is averaged; `inverse_size` is then the mean of 1 / of.
    """

    n: int
    mean: float
    #: Sum of squared deviations from the mean.
    squares: float
    inverse_size: float

    @property
    def variance(self) -> float:
        """Sample variance; 0 below two values."""
        return self.squares / (self.n - 1) if self.n > 1 else 0.0

    @property
    def deviation(self) -> float:
        """Sample standard deviation."""
        return sqrt(self.variance)


class Known(NamedTuple):
    """Baselines of m streams, and what they rest on: each of shape (m, 1).

    `learned` is the number of observations a baseline was learned from, infinite where it was given; `inverse_size`
    as in `Moments`.
    """

    location: Floats
    spread: Floats
    learned: Floats
    inverse_size: Floats

    @classmethod
    def given(cls, location: float, spread: float) -> "Known":
        """One baseline that was not learned."""
        return cls(*(np.array([[number]]) for number in (location, spread, np.inf, 0.0)))

    def margin(self, doubt: float) -> Floats:
        """How far the true mean may be from a learned one with probability `doubt` on a side, in deviations.

        The limit by Student's law (1908); 0 where the baseline was given.
        """
        given = np.isinf(self.learned)
        n = np.where(given, 2.0, np.maximum(self.learned, 2.0))
        return np.where(given, 0.0, -stdtrit(n - 1, doubt) / np.sqrt(n))

    def excess(self, doubt: float, kurtosis: Floats | float = 0.0) -> Floats:
        """By what share the true variance may exceed a learned one with probability `doubt`; 0 where it was given.

        The limit by the chi-squared law, with as many degrees of freedom as give the variance of a sample variance
        from a law with that excess kurtosis (Satterthwaite 1946).
        """
        given = np.isinf(self.learned)
        n = np.where(given, 2.0, np.maximum(self.learned, 2.0))
        degrees = 2 / (2 / (n - 1) + np.maximum(kurtosis, 0.0) / n)
        return np.where(given, 0.0, degrees / chdtri(degrees, 1 - doubt) - 1)


class Model(Protocol):
    """One kind of change in one kind of observation. Vectorised over streams; it keeps nothing of its own.

    A baseline is (location, spread): two numbers whose meaning the model states. `shifts` are the sizes of the
    alternatives, signed, in the unit the model states; `weights` their prior shares.

    A learned baseline is never quite right, and the error stays: a promise that took it for the truth would be broken
    by every stream whose mean was learned too high. So an alternative is held against the null law *nearest to it*
    that what was learned leaves possible, up to `doubt`: that is the least favourable one (for the exponential
    families here: Grunwald, de Heide, Koolen 2024, JRSS B 86, 1091-1128), and every other has a smaller mean ratio. An
    alternative that is nearer to that null law than half its size could hardly be told from it, and moves out to there.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""

    @property
    def quantity(self) -> str:
        """What it is that changes: the mean, the rate, the spread."""

    @property
    def columns(self) -> int:
        """Numbers in one observation: 1, or 2 for (count, of)."""

    @property
    def weights(self) -> Floats:
        """Prior shares, shape (K,)."""

    @property
    def shifts(self) -> Floats:
        """Signed sizes, shape (K,)."""

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """Which of the observations, shape (n, columns), the model can judge."""

    def shaped(self, values: Floats) -> Floats:
        """Observations as they are learned from and judged."""

    def check(self, location: float, spread: float) -> None:
        """Raise ValueError if that cannot be a baseline."""

    def coefficients(self, known: Known, doubt: float) -> Floats:
        """What depends on the baselines alone; shape (m, C, K)."""

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """Likelihood ratios of observations, shape (n, columns), with coefficients (n, C, K); shape (n, K)."""

    def learned(self, moments: Moments) -> tuple[float, float]:
        """The baseline that observations show."""

    def observed(self, values: Floats, coefficients: Floats) -> Floats:
        """What is averaged to say how large a change is, shape (n,)."""

    def effect(self, mean: float, location: float, spread: float) -> float:
        """The size of a change, from the average of `observed` since."""

    def noise(self, location: float, spread: float, size: float, of: float) -> float:
        """Standard error of `effect` from one observation after a change of `size`; of a count, one out of `of`."""


class OfLocation:
    """What models have in common whose change is one of location."""

    columns = 1
    quantity = "mean"

    def shaped(self, values: Floats) -> Floats:
        """As they are."""
        return values

    def observed(self, values: Floats, coefficients: Floats) -> Floats:
        """The value; of (count, of) their quotient."""
        return share(values)

    def effect(self, mean: float, location: float, spread: float) -> float:
        """The mean less the baseline's."""
        return mean - location

    def noise(self, location: float, spread: float, size: float, of: float) -> float:
        """The baseline's spread."""
        return spread


class OfShare(OfLocation):
    """What models of a proportion have in common: estimates of one may lie somewhat outside [0, 1]."""

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """Finite values not further than 0.25 outside [0, 1]."""
        x = values[:, 0]
        taken: NDArray[np.bool_] = (x >= -_OUTSIDE) & (x <= 1 + _OUTSIDE)
        return taken

    def shaped(self, values: Floats) -> Floats:
        """Cut to [0, 1]."""
        return np.clip(values, 0.0, 1.0)


class OfNormal(OfLocation):
    """What models of a normal value have in common; their baseline is (mean, standard deviation)."""

    #: The least standard deviation that is learned.
    least_spread = 1e-9

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """All values whose square is finite."""
        taken: NDArray[np.bool_] = np.abs(values[:, 0]) <= _LARGEST
        return taken

    def check(self, location: float, spread: float) -> None:
        """A mean, and a standard deviation above 0."""
        if not (abs(location) <= _LARGEST and 0 < spread <= _LARGEST):
            raise ValueError(f"a baseline is a finite mean and a standard deviation > 0, not {location} and {spread}")

    def learned(self, moments: Moments) -> tuple[float, float]:
        """Mean and standard deviation; of a constant, a deviation of a thousandth of it."""
        return moments.mean, max(moments.deviation, 1e-3 * abs(moments.mean), self.least_spread)


def share(values: Floats) -> Floats:
    """Observations as one number each: the value, or count / of."""
    return values[:, 0] if values.shape[1] == 1 else values[:, 0] / values[:, 1]


def apart(
    shifts: Floats, margin: Floats, excess: Floats, correlation: Floats | float = 0.0
) -> tuple[Floats, Floats]:  # fmt: skip
    r"""The null mean nearest to each alternative, and the alternative, in standard deviations, signed, shape (m, K).

    For a normal value and an alternative :math:`\delta` against a null mean at :math:`\epsilon < \delta`, the mean
    ratio is at most 1 where :math:`e + \frac{1}{2} (\delta - \epsilon) v \le \epsilon`, with e the error of the
    mean and v that of the variance. So :math:`\epsilon` is both limits, added as errors are.

    Parameters
    ----------
    shifts
        Alternatives in standard deviations, shape (K,).
    margin, excess
        `Known.margin` and `Known.excess`, shape (m, 1).
    correlation
        Of an estimated mean that errs towards the alternative and a variance estimated too small, shape (m, K).
    """
    sizes = np.abs(shifts)

    def limit(distance: Floats) -> Floats:
        spread = 0.5 * distance * excess
        found: Floats = np.sqrt(np.maximum(margin**2 + spread**2 + 2 * correlation * margin * spread, 0.0))
        return found

    null = limit(sizes)
    near = null > sizes / 2
    null = np.where(near, limit(sizes / 2), null)
    alternative = np.where(near, np.maximum(null + sizes / 2, sizes), sizes)
    return np.sign(shifts) * null, np.sign(shifts) * alternative


def outwards(alternatives: Floats, nulls: Floats, shifts: Floats) -> Floats:
    """Alternatives, shape (m, K), moved out to half a shift from the null law where they are nearer to it."""
    nearest = nulls + 0.5 * shifts
    moved: Floats = np.where(shifts > 0, np.maximum(alternatives, nearest), np.minimum(alternatives, nearest))
    return moved


def beyond(alternatives: Floats, nulls: Floats, shifts: Floats) -> NDArray[np.bool_]:
    """Whether alternatives, shape (m, K), are further out than the null law they are held against."""
    further: NDArray[np.bool_] = (alternatives - nulls) * np.sign(shifts) > 0
    return further


def ratio(exponent: Floats) -> Floats:
    """exp, cut where it would be useless to go on."""
    return np.exp(np.minimum(exponent, _MAX_EXPONENT))


def directed(
    direction: str, sizes: tuple[float, ...], main: float, rising: float = 0.0
) -> tuple[Floats, Floats]:  # fmt: skip
    """Shifts and weights of a grid of sizes for a direction; within a side weights rise as size ** `rising`.

    Looking at the other side as well costs the main one only log(1 / main) of evidence. Both sides in full would be
    twice the memory, so ``both`` takes every second size.

    Raises
    ------
    ValueError
        If the direction is unknown, a size is not positive, or `main` is outside [0.5, 1].
    """
    if direction not in {"down", "up", "both"} or min(sizes) <= 0 or not 0.5 <= main <= 1:
        raise ValueError(f"direction down, up or both, sizes > 0, main in [0.5, 1]; not {direction}, {sizes}, {main}")
    share = 0.5 if direction == "both" else main
    kept = sizes[::2] if direction == "both" else sizes
    signed = np.asarray(kept, dtype=np.float64) * (-1 if direction == "down" else 1)
    if share == 1:
        return signed, _prior(signed, rising)
    # The side that matters less is looked at through one alternative: every one is memory and time.
    opposite = -signed if direction == "both" else -signed[len(signed) // 2 :][:1]
    weights = [_prior(side, rising) * part for side, part in ((signed, share), (opposite, 1 - share))]
    return np.concatenate([signed, opposite]), np.concatenate(weights)


def _prior(side: Floats, rising: float) -> Floats:
    weights = np.abs(side) ** rising
    prior: Floats = weights / weights.sum()
    return prior
