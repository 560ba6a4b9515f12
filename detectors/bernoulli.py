"""Change of a rate: errors, refusals, violations, one yes or no at a time."""

from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit

from detectors.model import Floats, Known, Moments, OfLocation, directed, outwards, ratio


class Bernoulli(OfLocation):
    r"""Shift of the log odds of a rate.

    With :math:`\operatorname{logit} p_k = \operatorname{logit} p + \delta_k` and p_0 = p, or if p was learned its
    confidence limit on the side of p_k,

    .. math:: \log L_k(x) = x \log \frac{p_k}{p_0} + (1 - x) \log \frac{1 - p_k}{1 - p_0}, \qquad x \in \{0, 1\}.

    Baseline: (rate p in (0, 1), unused). Shifts are in log odds.

    Parameters
    ----------
    direction
        The side that matters: ``up``, ``down`` or ``both``.
    sizes
        Sizes of shifts looked for, in log odds, > 0.
    main
        Share of the prior on that side, in [0.5, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from detectors.bank import Bank, Baseline
    >>> bank = Bank(Bernoulli("up"))
    >>> row = bank.add(Baseline(0.05, 0.0, "catalog"))
    >>> rng = np.random.default_rng(1)
    >>> values = np.concatenate([rng.random(2000) < 0.05, rng.random(200) < 0.20]).astype(float)
    >>> [2000 < alarm.place < 2120 for alarm in bank.run(row, values, inflow=1e-4)]
    [True]

    References
    ----------
    Reynolds, Stoumbos: A CUSUM chart for monitoring a proportion when inspecting continuously. J. Quality Technology 31
    (1999), 87-108 (the ratio).
    """

    name: Final = "bernoulli"
    quantity = "rate"

    def __init__(
        self,
        direction: str = "up",
        sizes: tuple[float, ...] = (0.4, 0.7, 1.1, 1.6),
        main: float = 1.0,
    ) -> None:
        # Where every event tells little, small sizes beside each other are nearly one; so large ones get more.
        self.shifts, self.weights = directed(direction, sizes, main, rising=0.5)

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """0 and 1."""
        taken: NDArray[np.bool_] = np.isin(values[:, 0], (0.0, 1.0))
        return taken

    def check(self, location: float, spread: float) -> None:
        """A rate strictly between 0 and 1."""
        if not 0 < location < 1:
            raise ValueError(f"a baseline rate is between 0 and 1, not {location}")

    def coefficients(self, known: Known, doubt: float) -> Floats:
        """Log ratio of a 1 and of a 0."""
        null = rate_limit(known.location, known.learned, self.shifts, doubt)
        moved = expit(outwards(logit(known.location) + self.shifts, logit(null), self.shifts))
        return np.stack([np.log(moved / null), np.log((1 - moved) / (1 - null))], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """The ratio of a 1 or of a 0."""
        return ratio(np.where(values > 0.5, coefficients[:, 0], coefficients[:, 1]))

    def learned(self, moments: Moments) -> tuple[float, float]:
        """The rate, with half an event added to either side (Jeffreys), so that it is never 0 or 1."""
        return (moments.mean * moments.n + 0.5) / (moments.n + 1), 0.0

    def noise(self, location: float, spread: float, size: float, of: float) -> float:
        """That of a yes or no."""
        rate = location + size
        return sqrt(max(rate * (1 - rate), 0.0))


def rate_limit(rate: Floats, trials: Floats, shifts: Floats, doubt: float) -> Floats:
    """The confidence limit of a rate on the side of each shift; the rate itself where trials are infinite.

    Exact for yes and no (Clopper, Pearson 1934, Biometrika 26, 404-413).

    Parameters
    ----------
    rate, trials
        What was seen, shape (m, 1).
    shifts
        Their signs are the sides, shape (K,).
    doubt
        The probability that the true rate is beyond the limit.
    """
    given = np.isinf(trials)
    n = np.where(given, 1.0, trials)
    upper = betaincinv(rate * n + 1, np.maximum((1 - rate) * n, 1e-3), 1 - doubt)
    lower = betaincinv(np.maximum(rate * n, 1e-3), (1 - rate) * n + 1, doubt)
    return np.where(given, rate, np.where(shifts > 0, upper, lower))
