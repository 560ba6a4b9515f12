"""Change of a bounded mean with no model at all: bets that lose money while nothing changes."""

from math import sqrt
from typing import Final

import numpy as np

from detectors.model import Floats, Known, Moments, OfShare, directed

_EDGE: Final = 1e-6


class Betting(OfShare):
    r"""Bets against the null hypothesis that the mean of observations in [0, 1] is at least (at most) m_0.

    .. math:: L_k(x) = 1 + \lambda_k (m_0 - x), \qquad 0 < \lambda_k \le 1 / (1 - m_0),

    for a fall, and its mirror image for a rise. Under the null :math:`E[L_k \mid \text{past}] \le 1` whatever the
    law of x and however it depends on the past, so this is the honest form while a baseline is only learned; it pays
    for it in delay.

    Baseline: (m_0 in (0, 1), unused). A learned m_0 is moved, for each side, to its confidence limit by the empirical
    Bernstein inequality, for which the learned observations must be independent and may have any law: a hundred scores
    of 1 do not prove that there is none of 0. Observations are cut to [0, 1], and a given m_0 must be the mean of
    observations so cut. `shifts` are shares of the largest bet, signed.

    Parameters
    ----------
    direction
        The side that matters: ``down``, ``up`` or ``both``.
    sizes
        Bets as a share of the largest possible one, in (0, 1].
    main
        Share of the prior on that side, in [0.5, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from detectors.bank import Bank, Baseline
    >>> bank = Bank(Betting("down"))
    >>> row = bank.add(Baseline(0.949, 0.0, "catalog"))
    >>> rng = np.random.default_rng(1)
    >>> values = np.concatenate([rng.beta(450, 24, 1000), rng.beta(440, 34, 60)])
    >>> [1000 < alarm.place < 1040 for alarm in bank.run(row, values, inflow=1e-4)]
    [True]

    References
    ----------
    Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting. J. Royal Statistical Society B 86
    (2024), 1-27. Maurer, Pontil: Empirical Bernstein bounds and sample variance penalization. COLT (2009). Shin,
    Ramdas, Rinaldo: E-detectors. NEJSDS 2 (2024), 229-260.
    """

    name: Final = "betting"

    def __init__(
        self,
        direction: str = "down",
        sizes: tuple[float, ...] = (0.06, 0.12, 0.25, 0.5, 0.75, 1.0),
        main: float = 0.97,
    ) -> None:
        if max(sizes) > 1:
            raise ValueError(f"a bet is a share of the largest one, in (0, 1], not {max(sizes)}")
        self.shifts, self.weights = directed(direction, sizes, main)

    def check(self, location: float, spread: float) -> None:
        """A mean strictly between 0 and 1."""
        if not 0 < location < 1:
            raise ValueError(f"a baseline mean is between 0 and 1, not {location}")

    def coefficients(self, known: Known, doubt: float) -> Floats:
        """m_0 and lambda_k, negative for a fall."""
        mean = known.location + np.sign(self.shifts) * _bernstein(known, doubt)
        mean = np.clip(mean, _EDGE, 1 - _EDGE)
        largest = np.where(self.shifts < 0, 1 / (1 - mean), 1 / mean)
        return np.stack([mean, self.shifts * largest], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """1 + lambda_k (x - m_0)."""
        return np.maximum(1 + coefficients[:, 1] * (values - coefficients[:, 0]), 0.0)

    def learned(self, moments: Moments) -> tuple[float, float]:
        """The mean, and the standard deviation for its confidence limits."""
        return min(max(moments.mean, _EDGE), 1 - _EDGE), moments.deviation

    def noise(self, location: float, spread: float, size: float, of: float) -> float:
        """The most that a value in [0, 1] can have around its mean: nothing else is assumed."""
        return sqrt(location * (1 - location))


def _bernstein(known: Known, doubt: float) -> Floats:
    """How far the mean of values in [0, 1] may be from a learned one with probability `doubt` on a side."""
    given = np.isinf(known.learned)
    n, nats = np.where(given, 2.0, np.maximum(known.learned, 2.0)), np.log(2 / doubt)
    limit = known.spread * np.sqrt(2 * nats / n) + 7 * nats / (3 * (n - 1))
    return np.where(given, 0.0, limit)
