"""Change of a Gaussian mean whose spread is known."""

from typing import Final

import numpy as np

from detectors.model import Floats, Known, OfNormal, apart, directed, ratio


class Gaussian(OfNormal):
    r"""Shift of the mean of :math:`N(\mu_0, \sigma_0^2)` by :math:`\delta_k \sigma_0`.

    .. math:: \log L_k(x) = (\delta_k - \epsilon_k) z - (\delta_k^2 - \epsilon_k^2) / 2,

    with :math:`z = (x - \mu_0) / \sigma_0`, and :math:`\epsilon_k = 0` for a baseline that is given.

    Baseline: (mean, standard deviation > 0). Shifts are in standard deviations.

    Parameters
    ----------
    direction
        The side that matters: ``down``, ``up`` or ``both``.
    sizes
        Sizes of shifts looked for, in standard deviations, > 0.
    main
        Share of the prior on that side, in [0.5, 1]; ``both`` halves it.
    least_spread
        The least standard deviation that is learned, > 0: a change far smaller than that is none.

    Examples
    --------
    >>> import numpy as np
    >>> from detectors.bank import Bank, Baseline
    >>> bank = Bank(Gaussian("down"))
    >>> row = bank.add(Baseline(0.95, 0.01, "catalog"))
    >>> rng = np.random.default_rng(1)
    >>> values = np.concatenate([rng.normal(0.95, 0.01, 1000), rng.normal(0.94, 0.01, 50)])
    >>> [1000 < alarm.place < 1030 for alarm in bank.run(row, values, inflow=1e-4)]
    [True]

    References
    ----------
    Pollak, Siegmund: A diffusion process and its applications to detecting a change in the drift of Brownian motion.
    Biometrika 72 (1985), 267-280 (the mixture over sizes).
    """

    name: Final = "gaussian"

    def __init__(
        self,
        direction: str = "down",
        sizes: tuple[float, ...] = (0.35, 0.475, 0.645, 0.88, 1.2, 1.6, 2.2),
        main: float = 0.97,
        least_spread: float = 1e-9,
    ) -> None:
        if not least_spread > 0:
            raise ValueError(f"least_spread is above 0, not {least_spread}")
        self.least_spread = least_spread
        self.shifts, self.weights = directed(direction, sizes, main)

    def coefficients(self, known: Known, doubt: float) -> Floats:
        """Slope and offset of log L_k as a function of x."""
        null, moved = apart(self.shifts, known.margin(doubt), known.excess(doubt))
        slope = (moved - null) / known.spread
        return np.stack([slope, slope * known.location + 0.5 * (moved**2 - null**2)], axis=1)

    def ratios(self, values: Floats, coefficients: Floats) -> Floats:
        """exp(slope * x - offset)."""
        return ratio(values * coefficients[:, 0] - coefficients[:, 1])
