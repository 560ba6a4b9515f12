"""Change of a rate seen as counts, (count, of), when the rate also varies between jobs."""

from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, expit, logit

from detectors.bernoulli import rate_limit
from detectors.model import Floats, Known, Moments, OfLocation, directed, outwards, ratio

#: The least variation between jobs that is ever assumed, as a share of the rate. Devices differ from job to job by far
#: more; a binomial law (none) gives 89 observations between false alarms where 10,000 were asked for.
LEAST_VARIATION: Final = 0.02


class BetaBinomial(OfLocation):
    r"""Shift of the log odds of a rate whose value for a job is itself drawn from a Beta law.

    A job's rate has mean p and coefficient of variation c, so :math:`\varphi = (1 - p) / (c^2 p) - 1`,
    :math:`\alpha = p \varphi`, :math:`\beta = (1 - p) \varphi`, and y of n counts have

    .. math:: P(y) = \binom{n}{y} \frac{B(y + \alpha, n - y + \beta)}{B(\alpha, \beta)}.

    L_k is the quotient of this at :math:`\operatorname{logit} p_k = \operatorname{logit} p + \delta_k` and at p_0 = p;
    c stays. Of a learned baseline p_0 is the confidence limit on the side of p_k, and c its upper one.

    Baseline: (rate p in (0, 1), coefficient of variation c >= 0; below 0.02 it counts as that). Shifts are in log odds.
    Observations are (y, n) with 0 <= y <= n, n >= 1.

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
    >>> bank = Bank(BetaBinomial("up"))
    >>> row = bank.add(Baseline(0.05, 0.18, "catalog"))
    >>> rng = np.random.default_rng(1)
    >>> rates = np.concatenate([rng.beta(29.3, 555.9, 1000), rng.beta(28.5, 351.7, 30)])
    >>> counts = np.stack([rng.binomial(1000, rates), np.full(1030, 1000)], axis=1)
    >>> [1000 < alarm.place < 1020 for alarm in bank.run(row, counts, inflow=1e-4)]
    [True]

    References
    ----------
    Skellam: A probability distribution derived from the binomial distribution. J. Royal Statistical Society B 10
    (1948), 257-261. Hohle: Online change-point detection in categorical time series. In: Statistical Modelling and
    Regression Structures (2010), 377-397.
    """

    name: Final = "beta_binomial"
    quantity = "rate"
    columns = 2

    def __init__(
        self,
        direction: str = "up",
        sizes: tuple[float, ...] = (0.12, 0.18, 0.27, 0.4, 0.6),
        main: float = 1.0,
    ) -> None:
        self.shifts, self.weights = directed(direction, sizes, main)
        self._one_sided = bool((self.shifts > 0).all() or (self.shifts < 0).all())

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """Whole counts with 0 <= y <= n and n >= 1."""
        y, n = values[:, 0], values[:, 1]
        whole = np.isfinite(n) & (np.floor(values) == values).all(axis=1)
        taken: NDArray[np.bool_] = whole & (y >= 0) & (n >= 1) & (y <= n)
        return taken

    def check(self, location: float, spread: float) -> None:
        """A rate strictly between 0 and 1, and a variation that a rate can have."""
        if not 0 < location < 1 or not 0 <= spread**2 < (1 - location) / location:
            raise ValueError(
                f"a baseline is a rate p between 0 and 1 and a variation below sqrt((1 - p) / p), not {location} and "
                f"{spread}"
            )

    def coefficients(self, known: Known, doubt: float) -> Floats:
        """alpha_k, beta_k, alpha_0, beta_0 and the difference of the log normalising constants."""
        rate, variation = known.location, np.maximum(known.spread, LEAST_VARIATION)
        counting = rate * (1 - rate) * known.inverse_size
        between = (variation * rate) ** 2 * (1 - known.inverse_size)
        one = counting + between
        # As many yes and no as would tell the rate as well as the learned jobs did.
        trials = known.learned * rate * (1 - rate) / np.maximum(one, 1e-300)
        null = rate_limit(rate, trials, self.shifts, doubt)
        # Few errors a job are as skewed as Poisson counts.
        kurtosis = 6 * variation**2 + known.inverse_size / rate
        more = np.maximum(one * (1 + known.excess(doubt, kurtosis)) - counting, between)
        variation = np.sqrt(more / (1 - known.inverse_size)) / rate
        moved = expit(outwards(logit(rate) + self.shifts, logit(null), self.shifts))
        alpha, beta = _shape(moved, variation)
        alpha0, beta0 = _shape(null, variation)
        return np.stack([alpha, beta, alpha0, beta0, betaln(alpha, beta) - betaln(alpha0, beta0)], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """Quotient of the two laws at (y, n)."""
        y, rest = values[:, :1], values[:, 1:] - values[:, :1]
        alpha, beta, alpha0, beta0, constant = (coefficients[:, index] for index in range(5))
        if self._one_sided:
            alpha0, beta0 = alpha0[:, :1], beta0[:, :1]
        null = betaln(y + alpha0, rest + beta0)
        return ratio(betaln(y + alpha, rest + beta) - null - constant)

    def learned(self, moments: Moments) -> tuple[float, float]:
        """Rate (Jeffreys, so that it is never 0 or 1) and variation: the variance less what counting alone adds."""
        shots = moments.n / moments.inverse_size
        rate = (moments.mean * shots + 0.5) / (shots + 1)
        counting = rate * (1 - rate) * moments.inverse_size
        between = max(moments.variance - counting, 0.0) / max(1 - moments.inverse_size, 1e-9)
        return rate, max(sqrt(between) / rate, LEAST_VARIATION)

    def noise(self, location: float, spread: float, size: float, of: float) -> float:
        """Variation between jobs, and of counting."""
        rate = location + size
        return sqrt((rate * spread) ** 2 + max(rate * (1 - rate), 0.0) / of)


def _shape(rate: Floats, variation: Floats) -> tuple[Floats, Floats]:
    precision = np.maximum((1 - rate) / (variation**2 * rate) - 1, 1e-3)
    return rate * precision, (1 - rate) * precision
