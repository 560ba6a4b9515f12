"""Increase of a variance."""

from math import sqrt
from typing import Final

import numpy as np

from detectors.model import Floats, Known, OfNormal, directed, outwards, ratio


class Variance(OfNormal):
    r"""Growth of the spread of :math:`N(\mu_0, \sigma_0^2)` by the factor :math:`s_k = e^{\delta_k}`.

    .. math:: \log L_k(x) = \log \frac{s_0}{s_k} + \frac{z^2}{2} (s_0^{-2} - s_k^{-2}),

    with :math:`z = (x - \mu_0) / \sigma_0`, and :math:`s_0 = 1` for a baseline that is given.

    Baseline: (mean, standard deviation > 0). Shifts are logarithms of the factor on the standard deviation.

    Parameters
    ----------
    direction
        The side that matters: ``up``, ``down`` or ``both``.
    sizes
        Logarithms of the factors looked for, > 0.
    main
        Share of the prior on that side, in [0.5, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from detectors.bank import Bank, Baseline
    >>> bank = Bank(Variance())
    >>> row = bank.add(Baseline(0.95, 0.01, "catalog"))
    >>> rng = np.random.default_rng(1)
    >>> values = np.concatenate([rng.normal(0.95, 0.01, 1000), rng.normal(0.95, 0.02, 60)])
    >>> [1000 < alarm.place < 1040 for alarm in bank.run(row, values, inflow=1e-4)]
    [True]

    References
    ----------
    Hawkins, Olwell: Cumulative Sum Charts and Charting for Quality Improvement (1998), section 4 (the ratio).
    """

    name: Final = "variance"
    quantity = "spread"

    def __init__(
        self, direction: str = "up", sizes: tuple[float, ...] = (0.15, 0.25, 0.4, 0.65, 1.0), main: float = 1.0
    ) -> None:
        self.shifts, self.weights = directed(direction, sizes, main)

    def coefficients(self, known: Known, doubt: float) -> Floats:
        """Mean, slope in squared deviations, offset."""
        # What a wrong mean adds to squared deviations looks like a larger variance.
        larger = 0.5 * np.log1p(known.excess(doubt) + known.margin(doubt) ** 2)
        null = np.where(self.shifts > 0, larger, -larger)
        moved = outwards(self.shifts, null, self.shifts)
        slope = 0.5 * (np.exp(-2 * null) - np.exp(-2 * moved)) / known.spread**2
        return np.stack([np.broadcast_to(known.location, slope.shape), slope, moved - null], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """exp(slope (x - mean)^2 - offset)."""
        return ratio(coefficients[:, 1] * (values - coefficients[:, 0]) ** 2 - coefficients[:, 2])

    def observed(self, values: Floats, coefficients: Floats) -> Floats:
        """Squared deviations from the baseline's mean."""
        deviations: Floats = values[:, 0] - coefficients[:, 0, 0]
        return deviations**2

    def effect(self, mean: float, location: float, spread: float) -> float:
        """The standard deviation since less the baseline's."""
        return sqrt(mean) - spread

    def noise(self, location: float, spread: float, size: float, of: float) -> float:
        """That of an estimated standard deviation: sigma / sqrt(2)."""
        return (spread + size) / sqrt(2)
