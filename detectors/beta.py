"""Change of the mean of a proportion, such as fidelity."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from detectors.model import Floats, Moments, OfLocation, directed, ratio

#: A proportion closer to 0 or 1 than this is taken as this: the law has no value at the ends.
EDGE: Final = 1e-4
#: Below this spread a stream counts as constant.
_CONSTANT: Final = 1e-5
#: Unbiased estimates of a proportion may lie somewhat outside [0, 1]; what is further out is refused.
OUTSIDE: Final = 0.25


class Beta(OfLocation):
    r"""Shift of the mean of a Beta law whose precision stays.

    With :math:`a_k = \mu_k \varphi`, :math:`b_k = (1 - \mu_k) \varphi`, :math:`\varphi = \mu_0 (1 - \mu_0) /
    \sigma_0^2 - 1` and :math:`\mu_k = \mu_0 + \delta_k \sigma_0` (at most half way to 0 or 1),

    .. math:: \log L_k(x) = (a_k - a_0) \log x + (b_k - b_0) \log(1 - x) - \log B(a_k, b_k) + \log B(a_0, b_0).

    Baseline: (mean in (0, 1), standard deviation > 0). Shifts are in standard deviations. Observations in [0, 1]; what
    is up to 0.25 outside (an unbiased estimate may be) counts as 1e-4 from the end, anything else is refused.

    Parameters
    ----------
    direction
        The side that matters: ``down``, ``up`` or ``both``.
    sizes
        Sizes of shifts looked for, in standard deviations, > 0.
    main
        Share of the prior on that side, in [0.5, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from detectors.bank import Bank, Baseline
    >>> bank = Bank(Beta("down"))
    >>> row = bank.add(Baseline(0.95, 0.01, "catalog"))
    >>> rng = np.random.default_rng(1)
    >>> values = np.concatenate([rng.beta(450, 24, 1000), rng.beta(445, 29, 60)])
    >>> [1000 < alarm.place < 1040 for alarm in bank.run(row, values, inflow=1e-4)]
    [True]

    References
    ----------
    Ferrari, Cribari-Neto: Beta regression for modelling rates and proportions. J. Applied Statistics 31 (2004), 799-815
    (mean and precision).
    """

    name: Final = "beta"

    def __init__(
        self,
        direction: str = "down",
        sizes: tuple[float, ...] = (0.35, 0.475, 0.645, 0.88, 1.2, 1.6, 2.2),
        main: float = 0.97,
    ) -> None:
        self.shifts, self.weights = directed(direction, sizes, main)

    def accepts(self, values: Floats) -> NDArray[np.bool_]:
        """Finite values not further than 0.25 outside [0, 1]."""
        x = values[:, 0]
        return np.isfinite(x) & (x >= -OUTSIDE) & (x <= 1 + OUTSIDE)

    def coefficients(self, baselines: Floats) -> Floats:
        """a_k - a_0, b_k - b_0 and the difference of the log normalising constants."""
        mean, spread = baselines[:, :1], baselines[:, 1:]
        precision = np.maximum(mean * (1 - mean) / spread**2 - 1, 2.0)
        moved = np.clip(mean + self.shifts * spread, mean / 2, (1 + mean) / 2)
        a, b, a0, b0 = moved * precision, (1 - moved) * precision, mean * precision, (1 - mean) * precision
        return np.stack([a - a0, b - b0, betaln(a, b) - betaln(a0, b0)], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """exp((a_k - a_0) log x + (b_k - b_0) log(1 - x) - difference)."""
        x = np.clip(values, EDGE, 1 - EDGE)
        return ratio(np.log(x) * coefficients[:, 0] + np.log1p(-x) * coefficients[:, 1] - coefficients[:, 2])

    def learned(self, moments: Moments) -> tuple[float, float]:
        """Mean and standard deviation; of a constant, one with which the constant itself is no evidence of change.

        Near an end a wide Beta law is so skewed that its own mean speaks against it; a fifth of the way
        is narrow enough.
        """
        mean = min(max(moments.mean, EDGE), 1 - EDGE)
        if moments.deviation < _CONSTANT:
            return mean, min(min(mean, 1 - mean) / 5, 1e-3)
        return mean, moments.deviation
