r"""Hellinger fidelity from counts, corrected for the bias of finite shots, with a standard error.

The Hellinger fidelity of a measured distribution q with the ideal one p is :math:`F = (\sum_i \sqrt{p_i q_i})^2`
(Hellinger 1909; the same quantity as `qiskit.quantum_info.hellinger_fidelity`). Putting the measured frequencies in
for q reads too low, because the square root is concave: a perfect device over 1,024 equal outcomes reads 0.59 at
1,000 shots. Here each term is divided by what a square root of a count of its size loses on average.

With :math:`n_i` counts in N shots, and :math:`\lambda_i = N q_i`:

* :math:`E\sqrt{n} = m(\lambda)` and :math:`Var\sqrt{n} = v(\lambda) = \lambda - m(\lambda)^2` for a Poisson count; both
  are tabulated below :math:`\lambda = 50` and expanded in :math:`1/\lambda` above.
* :math:`\hat S = \sum_i \sqrt{p_i n_i / N} \, c_i` with :math:`c_i = \sqrt{\lambda_i} / m(\lambda_i)`, its
  excess over 1 scaled by :math:`1 - q_i`, the share of Poisson variance a binomial count keeps.
* :math:`Var \hat S = \frac{1}{N} \left( \sum_i p_i c_i^2 v(\lambda_i) - \hat S^2 / 4 \right)`: the delta method for a
  multinomial, with :math:`v \to 1/4`.
* :math:`\hat F = \hat S^2 - Var \hat S`, since :math:`E \hat S^2 = S^2 + Var \hat S`.

:math:`\lambda_i` must not come from :math:`n_i` itself (that would put the noise back); it comes from the mixture
:math:`q_i = f p_i + (1-f)/K` whose f matches the measured overlap :math:`\sum_i p_i n_i / N`.
"""

from collections.abc import Mapping
from math import sqrt
from operator import mul
from typing import Final, NamedTuple

import numpy as np

ESTIMATOR: Final = "hellinger-bias-corrected"

_TABLE_END: Final = 50.0
_STEPS_PER_UNIT: Final = 20
_MIXTURE_STEPS: Final = 256
_CACHED_MIXTURES: Final = 1024
#: An outcome less likely than this adds less than 1e-6 to any fidelity; it counts as impossible.
_POSSIBLE: Final = 1e-12
#: An outcome that was seen was not expected less often than this, whatever the mixture says; bounds the correction to
#: a factor of 3.3.
_LEAST_RATE: Final = 0.1


def _poisson_root_means() -> list[float]:
    """m(lambda) on a grid of 1/20 from 0 to 50: the mean of the square root of a Poisson count."""
    grid = np.arange(0, int(_TABLE_END * _STEPS_PER_UNIT) + 2) / _STEPS_PER_UNIT
    mass = np.exp(-grid)
    total = np.zeros_like(grid)
    for n in range(1, 160):  # P(N >= 160 | lambda = 50) is below 1e-30
        mass = mass * grid / n
        total += sqrt(n) * mass
    means: list[float] = total.tolist()
    return means


_ROOT_MEANS: Final = _poisson_root_means()


def root_mean(rate: float) -> float:
    """E sqrt(N) for N ~ Poisson(`rate`), `rate` >= 0; absolute error below 1e-4.

    >>> round(root_mean(1.0), 4)
    0.7732
    """
    if rate >= _TABLE_END:
        # Moments of the Poisson law in the Taylor series of sqrt(lambda + d) give 1 - 1/(8 l) - 7/(128 l^2).
        return sqrt(rate) * (1 - 1 / (8 * rate) - 7 / (128 * rate * rate))
    position = rate * _STEPS_PER_UNIT
    step = int(position)
    low = _ROOT_MEANS[step]
    return low + (position - step) * (_ROOT_MEANS[step + 1] - low)


class Fidelity(NamedTuple):
    """An estimate of the Hellinger fidelity and its standard error (one standard deviation).

    `value` is unbiased rather than clipped, so it may lie slightly above 1 or below 0.
    """

    value: float
    standard_error: float
    #: Shots whose outcome a perfect device can give.
    hits: int


class Ideal:
    """An ideal distribution, prepared for comparison.

    Parameters
    ----------
    probabilities
        Outcome -> probability; all outcomes of equal length, probabilities non-negative and summing to 1 (within
        1e-6).

    Raises
    ------
    ValueError
        If it is no probability distribution over bitstrings of one length.
    """

    __slots__ = (
        *("_bitstrings", "_floor", "_nothing", "_probabilities", "_spread", "_weights"),
        *("outcomes", "overlap", "terms", "width"),
    )

    def __init__(self, probabilities: Mapping[str, float]) -> None:
        lengths = {len(outcome) for outcome in probabilities}
        if len(lengths) != 1:
            raise ValueError("the outcomes of an ideal distribution have one length")
        if abs(sum(probabilities.values()) - 1) > 1e-6 or min(probabilities.values()) < 0:
            raise ValueError("the probabilities of an ideal distribution are non-negative and sum to 1")
        #: (outcome, probability) of the outcomes that can occur.
        self.terms = tuple((outcome, p) for outcome, p in sorted(probabilities.items()) if p > _POSSIBLE)
        #: Length of an outcome, in bits.
        self.width = lengths.pop()
        #: K, the number of possible outcomes.
        self.outcomes = 2.0**self.width
        #: sum of squared probabilities: the overlap a perfect device would show.
        self.overlap = sum(p * p for _, p in self.terms)
        self._bitstrings = tuple(outcome for outcome, _ in self.terms)
        self._probabilities = tuple(p for _, p in self.terms)
        self._floor = 1 / self.outcomes
        self._spread = self.overlap - self._floor
        self._nothing = (0,) * len(self.terms)
        self._weights: dict[tuple[int, int], tuple[list[float], float]] = {}

    def fidelity(self, counts: Mapping[str, int], shots: int) -> Fidelity:
        """Estimate the fidelity of measured counts.

        Parameters
        ----------
        counts
            Outcome -> times seen; they add up to `shots`.
        shots
            Number of shots, >= 1.
        """
        seen = list(map(counts.get, self._bitstrings, self._nothing))
        overlap = sum(map(mul, self._probabilities, seen)) / shots
        f = 1.0 if self._spread < 1e-12 else (overlap - self._floor) / self._spread
        step = 0 if f < 0 else _MIXTURE_STEPS if f > 1 else round(f * _MIXTURE_STEPS)
        weights, variance_sum = self._weights.get((shots, step)) or self._weigh(shots, step)
        amplitude = sum(map(mul, weights, map(sqrt, seen)))
        square = amplitude * amplitude
        variance = (variance_sum - square / 4) / shots
        if variance < 0:
            variance = 0.0
        # Var(S^2) to second order: the first term vanishes at a perfect device, the second does not.
        return Fidelity(square - variance, sqrt(4 * square * variance + 2 * variance * variance), sum(seen))

    def _weigh(self, shots: int, step: int) -> tuple[list[float], float]:
        """The factor of sqrt(n_i) of every term, and the sum in the variance, for one mixture f = step / 256.

        They vary slowly with f, so the grid costs less than 1e-4 in fidelity and most results find theirs ready.
        """
        f = step / _MIXTURE_STEPS
        weights = []
        variance_sum = 0.0
        for _, p in self.terms:
            q = f * p + (1 - f) / self.outcomes
            rate = max(shots * q, _LEAST_RATE)
            mean = root_mean(rate)
            correction = 1 + (sqrt(rate) / mean - 1) * (1 - q)
            variance_sum += p * correction * correction * (rate - mean * mean)
            weights.append(sqrt(p / shots) * correction)
        if len(self._weights) >= _CACHED_MIXTURES:
            self._weights.clear()
        self._weights[shots, step] = weights, variance_sum
        return weights, variance_sum
