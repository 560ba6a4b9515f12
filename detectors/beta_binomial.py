"""Change of a rate seen as counts, (count, of), when the rate also varies between jobs."""

from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, expit, logit
from scipy.stats import chi2

from detectors.model import Floats, Moments, OfLocation, directed, ratio

#: The least variation between jobs that is ever assumed, as a share of the rate. Devices differ from job to job by far
#: more; a binomial law (none) gives 89 observations between false alarms where 10,000 were asked for.
LEAST_VARIATION: Final = 0.02
#: A learned variation is taken at its upper confidence limit: too little would ring, too much only waits.
_CONFIDENCE: Final = 0.90


class BetaBinomial(OfLocation):
    r"""Shift of the log odds of a rate whose value for a job is itself drawn from a Beta law.

    A job's rate has mean p and coefficient of variation c, so :math:`\varphi = (1 - p) / (c^2 p) - 1`,
    :math:`\alpha = p \varphi`, :math:`\beta = (1 - p) \varphi`, and y of n counts have

    .. math:: P(y) = \binom{n}{y} \frac{B(y + \alpha, n - y + \beta)}{B(\alpha, \beta)}.

    L_k is the quotient of this at :math:`\operatorname{logit} p_k = \operatorname{logit} p_0 + \delta_k` and at p_0;
    c stays.

    Baseline: (rate in (0, 1), coefficient of variation >= 0.02). Shifts are in log odds. Observations are (y, n) with
    0 <= y <= n, n >= 1.

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
    columns = 2

    def __init__(
        self,
        direction: str = "up",
        sizes: tuple[float, ...] = (0.12, 0.18, 0.27, 0.4, 0.6),
        main: float = 1.0,
    ) -> None:
        self.shifts, self.weights = directed(direction, sizes, main)

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """Whole counts with 0 <= y <= n and n >= 1."""
        y, n = values[:, 0], values[:, 1]
        whole = np.isfinite(n) & (np.floor(values) == values).all(axis=1)
        taken: NDArray[np.bool_] = whole & (y >= 0) & (n >= 1) & (y <= n)
        return taken

    def coefficients(self, baselines: Floats) -> Floats:
        """alpha_k, beta_k, alpha_0, beta_0 and the difference of the log normalising constants."""
        rate, variation = baselines[:, :1], np.maximum(baselines[:, 1:], LEAST_VARIATION)
        moved = expit(logit(rate) + self.shifts)
        alpha, beta = _shape(moved, variation)
        alpha0, beta0 = (np.broadcast_to(each, alpha.shape) for each in _shape(rate, variation))
        return np.stack([alpha, beta, alpha0, beta0, betaln(alpha, beta) - betaln(alpha0, beta0)], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """Quotient of the two laws at (y, n)."""
        y, rest = values[:, :1], values[:, 1:] - values[:, :1]
        alpha, beta, alpha0, beta0, constant = (coefficients[:, index] for index in range(5))
        null = betaln(y + alpha0[:, :1], rest + beta0[:, :1])
        return ratio(betaln(y + alpha, rest + beta) - null - constant)

    def learned(self, moments: Moments) -> tuple[float, float]:
        """Rate and variation by moments, the variance at its 90 % upper limit, less what counting alone adds."""
        rate = min(max(moments.mean, 1e-6), 1 - 1e-6)
        if moments.n < 2:
            return rate, 1.0
        degrees = moments.n - 1
        variance = moments.squares / float(chi2.ppf(1 - _CONFIDENCE, degrees))
        counting = rate * (1 - rate) * moments.inverse_size
        between = max(variance - counting, 0.0) / max(1 - moments.inverse_size, 1e-9)
        return rate, max(sqrt(between) / rate, LEAST_VARIATION)

    def noise(self, location: float, spread: float) -> float:
        """Variation between jobs; what counting adds is small beside it at a thousand shots."""
        return location * spread


def _shape(rate: Floats, variation: Floats) -> tuple[Floats, Floats]:
    precision = np.maximum((1 - rate) / (variation**2 * rate) - 1, 1e-3)
    return rate * precision, (1 - rate) * precision
