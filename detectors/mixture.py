r"""The mixture Shiryaev-Roberts recursion, for many streams at once.

For each alternative k with likelihood ratio :math:`L_k(x)` against the null law, and an inflow :math:`a_n \ge 0` fixed
before observation n is seen,

.. math:: R_k(n) = (R_k(n-1) + a_n) \, L_k(x_n), \qquad M(n) = \sum_k w_k R_k(n), \qquad \sum_k w_k = 1.

Under the null :math:`E[L_k] \le 1`, so :math:`M(n) - \sum_{i \le n} a_i` is a supermartingale, and with an alarm
(and a restart from 0) whenever :math:`M \ge 1` the expected number of false alarms up to any time is at most the
inflow up to then: nothing is asymptotic, no law of the inflow is assumed, and streams may depend on each other in any
way. With :math:`a_n = 1/A` this is the classical procedure with threshold A, whose average run length is at least A.

Two companions follow the same recursion and cost no more: the age of the change and the sum of values since, each
averaged over where the change may have begun.

References
----------
Roberts: A comparison of some control chart procedures. Technometrics 8 (1966), 411-430. Pollak: Average run lengths
of an optimal method of detecting a change in distribution. Annals of Statistics 15 (1987), 749-779. Shin, Ramdas,
Rinaldo: E-detectors: a nonparametric framework for sequential change detection. NEJSDS 2 (2024), 229-260.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.model import Floats

Rows = NDArray[np.intp]
#: The reversed test divides by no less than this, and needs no more than that.
_LEAST_RATIO: Final = 1e-12
_MOST: Final = 1e100


class Mixture:
    """State of the recursion: one row a stream.

    A row holds, for K alternatives, R in units of the alarm (an alarm is at a weighted sum of 1), its companions age
    and total, and at last the inflow since the restart: 3 K + 1 numbers in one array, so that a step is few operations.

    Parameters
    ----------
    weights
        w, shape (K,): positive, summing to 1.
    rows
        Streams to begin with.
    """

    def __init__(self, weights: Floats, rows: int = 0) -> None:
        self.weights = weights
        self.state = np.zeros((rows, 3 * len(weights) + 1))

    def grow(self, rows: int) -> None:
        """Make room for `rows` streams."""
        state = np.zeros((rows, self.state.shape[1]))
        state[: len(self.state)] = self.state
        self.state = state

    def step(self, rows: Rows, tripled: Floats, values: Floats, inflow: Floats) -> Floats:
        """Take in one observation of each of some streams.

        Parameters
        ----------
        rows
            Distinct streams, shape (n,).
        tripled
            L, shape (n, K), each finite and >= 0, three times side by side: `triple`.
        values
            What the total adds up, shape (n,).
        inflow
            a, shape (n,), >= 0.

        Returns
        -------
        M, shape (n,).
        """
        k = len(self.weights)
        state = self.state[rows]
        evidence = state[:, :k]
        evidence += inflow[:, None]
        state[:, k : 2 * k] += evidence
        state[:, 2 * k : 3 * k] += evidence * values[:, None]
        state[:, : 3 * k] *= tripled
        state[:, 3 * k] += inflow
        self.state[rows] = state
        # Added up one by one, as `follow` does: in any other order the last bit would depend on the batch.
        statistic: Floats = evidence[:, 0] * self.weights[0]
        for column in range(1, k):
            statistic += evidence[:, column] * self.weights[column]
        return statistic

    def follow(
        self, row: int, ratios: Sequence[Sequence[float]], values: Sequence[float], inflow: Sequence[float], first: int
    ) -> tuple[int, float]:
        """As `step`, to the bit, for the observations of one stream from `first` on, until one of them alarms.

        In plain Python: for a handful of streams that is faster than arrays.

        Returns
        -------
        The place of the alarm and M; or the number of observations and 0.
        """
        k = len(self.weights)
        weights, numbers = self.weights.tolist(), self.state[row].tolist()
        evidence, age, total, spent = numbers[:k], numbers[k : 2 * k], numbers[2 * k : 3 * k], numbers[3 * k]
        columns = range(k)
        place, found = len(values), 0.0
        for at in range(first, len(values)):
            share, value, ratio = inflow[at], values[at], ratios[at]
            statistic = 0.0
            for column in columns:
                here, by = evidence[column] + share, ratio[column]
                age[column] = (age[column] + here) * by
                total[column] = (total[column] + here * value) * by
                evidence[column] = here = here * by
                statistic += here * weights[column]
            spent += share
            if statistic >= 1.0:
                place, found = at, statistic
                break
        self.state[row] = [*evidence, *age, *total, spent]
        return place, found

    def restart(self, row: int) -> None:
        """Forget the past of a stream."""
        self.state[row] = 0.0

    def step_back(self, rows: Rows, ratios: Floats, inflow: Floats) -> Floats:
        """The reversed test for some streams: r = (r + inflow) / L in the place of R; shape (n, K)."""
        k = len(self.weights)
        back = np.minimum((self.state[rows, :k] + inflow[:, None]) / np.maximum(ratios, _LEAST_RATIO), _MOST)
        self.state[rows, :k] = back
        return back

    def follow_back(
        self,
        row: int,
        ratios: Sequence[Sequence[float]],
        first: int,
        possible: Sequence[bool],
        inflow: Sequence[float],
    ) -> tuple[int, bool]:
        """As `step_back`, to the bit, for one stream from `first` on, until the smallest of the possible reaches 1.

        Returns
        -------
        The place of that and True; or the number of observations and False.
        """
        k = len(self.weights)
        back = self.state[row, :k].tolist()
        place, found = len(ratios), False
        for at in range(first, len(ratios)):
            more = inflow[at]
            back = [min((r + more) / max(by, _LEAST_RATIO), _MOST) for r, by in zip(back, ratios[at], strict=True)]
            if min(r for r, may in zip(back, possible, strict=True) if may) >= 1.0:
                place, found = at, True
                break
        self.state[row, :k] = back
        return place, found

    def mean(self, row: int) -> tuple[float, float]:
        """What `follow_mean` keeps of a stream that is out."""
        k = len(self.weights)
        return float(self.state[row, k]), float(self.state[row, 2 * k])

    def follow_mean(self, row: int, mean: float, said: float) -> None:
        """Keep two numbers of a stream that is out, where the companions of its evidence were."""
        k = len(self.weights)
        self.state[row, k], self.state[row, 2 * k] = mean, said

    def posterior(self, row: int) -> tuple[Floats, float, float, float]:
        """Of a stream: shares of the alternatives; of the likeliest the age and the mean since; the inflow."""
        k = len(self.weights)
        evidence, age, total = (self.state[row, k * part : k * (part + 1)] for part in range(3))
        weighted = evidence * self.weights
        shares = weighted / weighted.sum()
        lead = int(shares.argmax())
        spent = float(self.state[row, 3 * k])
        return shares, float(age[lead] / evidence[lead]), float(total[lead] / age[lead]), spent


def triple(ratios: Floats) -> Floats:
    """Likelihood ratios, shape (n, K), three times side by side: for the evidence, the age and the total."""
    return np.tile(ratios, (1, 3))
