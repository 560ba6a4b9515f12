"""What a model of a stream is: a null law with a grid of alternatives, as likelihood ratios."""

from math import sqrt
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Likelihood ratios are cut at exp of this, which keeps them valid (a smaller one is still an e-value) and finite.
_MAX_EXPONENT: Final = 50.0


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


class Model(Protocol):
    """One kind of change in one kind of observation. Vectorised over streams; it keeps nothing of its own.

    A baseline is (location, spread): two numbers whose meaning the model states. `shifts` are the sizes of the
    alternatives, signed, in the unit the model states; `weights` their prior shares.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""

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

    def coefficients(self, baselines: Floats) -> Floats:
        """What depends on the baselines, shape (m, 2), alone; shape (m, C, K)."""

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """Likelihood ratios of observations, shape (n, columns), with coefficients (n, C, K); shape (n, K)."""

    def learned(self, moments: Moments) -> tuple[float, float]:
        """The baseline that observations show."""

    def observed(self, values: Floats, coefficients: Floats) -> Floats:
        """What is averaged to say how large a change is, shape (n,)."""

    def effect(self, mean: float, location: float, spread: float) -> float:
        """The size of a change, from the average of `observed` since."""

    def noise(self, location: float, spread: float) -> float:
        """Standard error of `effect` from one observation, under a baseline."""


class OfLocation:
    """What models have in common whose change is one of location."""

    columns = 1

    def observed(self, values: Floats, coefficients: Floats) -> Floats:
        """The value; of (count, of) their quotient."""
        return share(values)

    def effect(self, mean: float, location: float, spread: float) -> float:
        """The mean less the baseline's."""
        return mean - location

    def noise(self, location: float, spread: float) -> float:
        """The baseline's spread."""
        return spread


class OfNormal(OfLocation):
    """What models of a normal value have in common; their baseline is (mean, standard deviation)."""

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """All finite values."""
        finite: NDArray[np.bool_] = np.isfinite(values[:, 0])
        return finite

    def learned(self, moments: Moments) -> tuple[float, float]:
        """Mean and standard deviation; of a constant, a deviation of a thousandth of it."""
        return moments.mean, max(moments.deviation, 1e-3 * abs(moments.mean), 1e-9)


def share(values: Floats) -> Floats:
    """Observations as one number each: the value, or count / of."""
    return values[:, 0] if values.shape[1] == 1 else values[:, 0] / values[:, 1]


def ratio(exponent: Floats) -> Floats:
    """exp, cut where it would be useless to go on."""
    return np.exp(np.minimum(exponent, _MAX_EXPONENT))


def directed(direction: str, sizes: tuple[float, ...], main: float) -> tuple[Floats, Floats]:
    """Shifts and weights of a grid of sizes for a direction.

    Looking at the other side as well costs the main one only log(1 / main) of evidence.

    Raises
    ------
    ValueError
        If the direction is unknown, a size is not positive, or `main` is outside [0.5, 1].
    """
    if direction not in {"down", "up", "both"} or min(sizes) <= 0 or not 0.5 <= main <= 1:
        raise ValueError(f"direction down, up or both, sizes > 0, main in [0.5, 1]; not {direction}, {sizes}, {main}")
    share = 0.5 if direction == "both" else main
    signed = np.asarray(sizes, dtype=np.float64) * (-1 if direction == "down" else 1)
    if share == 1:
        return signed, np.full(len(signed), 1 / len(signed))
    # The side that matters less is looked at through one alternative: every one is memory and time.
    opposite = -signed if direction == "both" else -signed[len(signed) // 2 :][:1]
    weights = [np.full(len(side), part / len(side)) for side, part in ((signed, share), (opposite, 1 - share))]
    return np.concatenate([signed, opposite]), np.concatenate(weights)
