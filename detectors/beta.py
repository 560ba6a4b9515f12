"""Change of the mean of a proportion, such as fidelity."""

from math import sqrt
from typing import Final

import numpy as np
from scipy.special import betainc, betaln

from detectors.model import Floats, Known, Moments, OfShare, apart, beyond, directed, ratio

#: Of a proportion closer to 0 or 1 than this only that is known: the law has no value at the ends.
EDGE: Final = 1e-4
#: Below this spread a stream counts as constant.
_CONSTANT: Final = 1e-5
#: a + b of the widest law that is taken: at 2 and a mean of 1/2 it is flat.
_LEAST_PRECISION: Final = 2.0


class Beta(OfShare):
    r"""Shift of the mean of a Beta law whose precision stays.

    With :math:`a_k = \mu_k \varphi`, :math:`b_k = (1 - \mu_k) \varphi`, :math:`\varphi = \mu (1 - \mu) /
    \sigma^2 - 1`, :math:`\mu_k = \mu + \delta_k \sigma` (at most half way to 0 or 1, and two standard deviations from
    it) and likewise :math:`\mu_0 = \mu`, or if the baseline was learned the mean towards :math:`\mu_k` that it leaves
    possible,

    .. math:: \log L_k(x) = (a_k - a_0) \log x + (b_k - b_0) \log(1 - x) - \log B(a_k, b_k) + \log B(a_0, b_0).

    Of an observation within 1e-4 of an end only that is taken in: L_k is then the quotient of the probabilities.

    Baseline: (mean in (0, 1), standard deviation > 0). Shifts are in standard deviations. Observations in [0, 1]; what
    is up to 0.25 outside (an unbiased estimate may be) counts as 0 or 1, anything else is refused.

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

    def check(self, location: float, spread: float) -> None:
        """A mean strictly between 0 and 1, and a standard deviation that is less than the way to the nearer end."""
        nearer = min(location, 1 - location)
        widest = sqrt(max(location * (1 - location), 0.0) / (1 + _LEAST_PRECISION))
        if not 0 < spread < min(nearer, widest):
            raise ValueError(
                f"a baseline is a mean m between 0 and 1 and a standard deviation below m, 1 - m and "
                f"sqrt(m (1 - m) / 3), not {location} and {spread}; of a device nearer to its end watch the error rate"
            )

    def coefficients(self, known: Known, doubt: float) -> Floats:
        """a_k - a_0, b_k - b_0, the difference of the log normalising constants, and log L_k at 0 and at 1."""
        spread = known.spread
        # Nearer to an end than its own spread a law is J-shaped, and as likely a mass at the end that no Beta law fits.
        # A mean taken one spread from the end is a null law further out than the truth, so the promise stays.
        down = self.shifts < 0
        mean = np.where(down, np.minimum(known.location, 1 - spread), np.maximum(known.location, spread))
        precision = np.maximum(mean * (1 - mean) / spread**2 - 1, _LEAST_PRECISION)
        skewness, kurtosis = _skewness_and_kurtosis(mean * precision, (1 - mean) * precision)
        # A mean that errs to the long tail's side comes with a variance that errs upwards.
        correlation = np.sign(self.shifts) * skewness / np.sqrt(kurtosis + 2)
        null, shifts = apart(self.shifts, known.margin(doubt), known.excess(doubt, kurtosis), correlation)
        # And towards an end that is nearer than two spreads there is no change to look for.
        low = np.minimum(mean, np.maximum(mean / 2, 2 * spread))
        high = np.maximum(mean, 1 - np.maximum((1 - mean) / 2, 2 * spread))
        moved, unmoved = (np.clip(mean + by * spread, low, high) for by in (shifts, null))
        a, b, a0, b0 = moved * precision, (1 - moved) * precision, unmoved * precision, (1 - unmoved) * precision
        constant = betaln(a, b) - betaln(a0, b0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = [
                np.log(betainc(a, b, EDGE)) - np.log(betainc(a0, b0, EDGE)),
                np.log(betainc(b, a, EDGE)) - np.log(betainc(b0, a0, EDGE)),
            ]
        # Where a probability is too small for a number, the density is as good.
        near, far = np.log(EDGE), np.log1p(-EDGE)
        densities = [(a - a0) * near + (b - b0) * far - constant, (a - a0) * far + (b - b0) * near - constant]
        ends = [np.where(np.isfinite(end), end, density) for end, density in zip(ends, densities, strict=True)]
        known_apart = beyond(moved, unmoved, self.shifts)
        logs = [np.where(known_apart, constant, np.inf), *(np.where(known_apart, end, -np.inf) for end in ends)]
        return np.stack([a - a0, b - b0, *logs], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """exp((a_k - a_0) log x + (b_k - b_0) log(1 - x) - difference); at the ends what was prepared."""
        x = np.clip(values, EDGE, 1 - EDGE)
        exponent = np.log(x) * coefficients[:, 0] + np.log1p(-x) * coefficients[:, 1] - coefficients[:, 2]
        for end, at_end in ((3, values[:, 0] <= EDGE), (4, values[:, 0] >= 1 - EDGE)):
            if at_end.any():
                exponent[at_end] = coefficients[at_end, end]
        return ratio(exponent)

    def learned(self, moments: Moments) -> tuple[float, float]:
        """Mean and standard deviation; of a constant, a deviation of one shot in a thousand."""
        mean = min(max(moments.mean, EDGE), 1 - EDGE)
        return mean, moments.deviation if moments.deviation >= _CONSTANT else 1e-3


def _skewness_and_kurtosis(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Skewness and excess kurtosis of a Beta law (Johnson, Kotz, Balakrishnan 1995, volume 2, chapter 25)."""
    total = a + b
    skewness = 2 * (b - a) * np.sqrt(total + 1) / ((total + 2) * np.sqrt(a * b))
    top = (a - b) ** 2 * (total + 1) - a * b * (total + 2)
    return skewness, 6 * top / (a * b * (total + 2) * (total + 3))
