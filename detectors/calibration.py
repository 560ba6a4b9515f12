"""Did a device change between two calibrations, and can the figures be true? From the parameters of its elements.

Elements of one device (qubits, gates) change together, so what counts is the median over elements of the log quotient
after / before. How much that median moves while nothing is wrong is learned from other pairs of snapshots, robustly.
"""

from collections.abc import Sequence
from math import log
from statistics import median
from typing import Final, Literal, NamedTuple

from scipy.special import stdtr

#: A readout that is wrong more often than this is no measurement: its opposite would be one.
IMPOSSIBLE_ERROR: Final = 0.5
#: Scales a median of absolute deviations to a normal standard deviation.
_MAD_SCALE: Final = 1.4826
_LEAST_SPREAD: Final = 0.02


class Shift(NamedTuple):
    """A change between two calibrations.

    `log_ratio` is the median over elements of log(after / before), `score` that in robust standard deviations of the
    pairs it was held against, `p_value` the two-sided probability of one as large.
    """

    kind: Literal["quiet", "shifted", "implausible"]
    log_ratio: float
    score: float
    p_value: float


def plausible(errors: Sequence[float], times: Sequence[float] = ()) -> bool:
    """Whether figures of one snapshot can be true of a device that works.

    Parameters
    ----------
    errors
        Error probabilities of its elements. More than half of them above 0.5 cannot be: such a qubit could be read
        better by reading the opposite, so the record is wrong, not the device.
    times
        Coherence times; one that is not positive cannot be.
    """
    impossible = sum(not 0 <= error <= IMPOSSIBLE_ERROR for error in errors)
    return impossible <= len(errors) / 2 and all(time > 0 for time in times)


def log_ratio(before: Sequence[float], after: Sequence[float]) -> float:
    """The median over elements of log(after / before); elements without two positive values are left out.

    Raises
    ------
    ValueError
        If no element is left.
    """
    ratios = [log(late / early) for early, late in zip(before, after, strict=True) if early > 0 and late > 0]
    if not ratios:
        raise ValueError("no element has a positive value in both snapshots")
    return median(ratios)


def judge(change: float, others: Sequence[float], level: float) -> Shift:
    """Hold a median log ratio against those of other pairs.

    Parameters
    ----------
    change
        What `log_ratio` gave.
    others
        The same of pairs in which nothing is known to be wrong, at least 5.
    level
        Probability of calling a pair shifted when it is like the others, in (0, 1).

    Raises
    ------
    ValueError
        If there are fewer than 5 others, or the level is out of range.
    """
    if len(others) < 5 or not 0 < level < 1:
        raise ValueError(f"at least 5 other pairs and a level in (0, 1), not {len(others)} and {level}")
    middle = median(others)
    spread = max(_MAD_SCALE * median(abs(other - middle) for other in others), _LEAST_SPREAD)
    score = (change - middle) / spread
    # A robust spread is worth some half of the pairs it is from (its efficiency is 0.37 at the normal law).
    p_value = 2 * float(stdtr(max(len(others) // 2, 2), -abs(score)))
    return Shift("shifted" if p_value < level else "quiet", change, score, p_value)
