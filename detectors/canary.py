"""Is the canary worse than the stable release? Comparisons of two samples, valid whenever they are looked at."""

from collections.abc import Callable, Sequence
from math import exp, isfinite, log
from typing import Final, Literal

import msgspec

Verdict = Literal["better", "worse", "equal", "differ", "not_enough_runs"]

#: Probabilities that the canary loses a pair, looked for beyond one half.
_LOSSES: Final = (0.55, 0.6, 0.7, 0.8, 0.9, 0.97)
_MAX_LOG: Final = 200.0
#: Different decisions that are told apart, at most.
_CATEGORIES: Final = 32


class Comparison(msgspec.Struct, array_like=True, tag=True):
    r"""Who wins pairs of one canary and one stable observation.

    Under the null hypothesis that a canary observation is below the stable one it is paired with at most half of the
    time, :math:`\prod_i q^{w_i} (1-q)^{1-w_i} / (1/2)`, averaged over q > 1/2, is an e-process: it exceeds
    :math:`1/\alpha` with probability at most :math:`\alpha`, however often it is looked at (Ville 1939). The same
    the other way round; and *equal* when both "loses more than 1/2 + margin" and "wins more than 1/2 + margin" are
    rejected likewise. No law of the values is assumed, and what happens to both (a device that drifts) cancels.

    Parameters
    ----------
    margin
        How far from 1/2 the share of lost pairs may be and still count as equal, in (0, 0.5).
    alpha
        Probability of a wrong verdict, ever, in (0, 1).

    Examples
    --------
    >>> comparison = Comparison()
    >>> for _ in range(12):
    ...     comparison.add(0.91, 0.95)
    >>> comparison.verdict()
    'worse'
    >>> Comparison().verdict()
    'not_enough_runs'

    References
    ----------
    Ramdas, Grunwald, Vovk, Shafer: Game-theoretic statistics and safe anytime-valid inference. Statistical Science 38
    (2023), 576-601. Robbins: Statistical methods related to the law of the iterated logarithm. Annals of Mathematical
    Statistics 41 (1970), 1397-1409 (the mixture).
    """

    margin: float = 0.1
    alpha: float = 0.05
    pairs: int = 0
    #: Pairs that the canary lost; a tie is half a loss.
    lost: float = 0.0

    def add(self, canary: float, stable: float) -> None:
        """Take in a pair; larger is better.

        Raises
        ------
        ValueError
            If one of them is not finite.
        """
        difference = canary - stable
        if not isfinite(difference):
            raise ValueError(f"a comparison takes finite values, not {canary} and {stable}")
        self.pairs += 1
        self.lost += 0.5 if difference == 0 else float(difference < 0)

    def evidence(self) -> dict[str, float]:
        """E-values against: not worse, not better, loses too often to be equal, wins too often to be equal."""
        won = self.pairs - self.lost
        # That a share at the edge of what counts as equal is really in the middle, or beyond it.
        edge, inside = 0.5 + self.margin, (0.5, 0.5 - self.margin / 2)
        return {
            "worse": _mixture(self.lost, won, _LOSSES, 0.5),
            "better": _mixture(won, self.lost, _LOSSES, 0.5),
            "not_losing": _mixture(self.lost, won, inside, edge),
            "not_winning": _mixture(won, self.lost, inside, edge),
        }

    def verdict(self) -> Verdict:
        """What can be said now; each side has half of `alpha`."""
        evidence, enough = self.evidence(), 2 / self.alpha
        if evidence["worse"] >= enough:
            return "worse"
        if evidence["better"] >= enough:
            return "better"
        if min(evidence["not_losing"], evidence["not_winning"]) >= enough:
            return "equal"
        return "not_enough_runs"


def _mixture(hits: float, misses: float, alternatives: Sequence[float], null: float) -> float:
    """Average over alternatives of the likelihood ratio of hits and misses against `null`."""
    exponents = (hits * log(q / null) + misses * log((1 - q) / (1 - null)) for q in alternatives)
    return sum(exp(min(exponent, _MAX_LOG)) for exponent in exponents) / len(alternatives)


class Homogeneity(msgspec.Struct, array_like=True, tag=True):
    r"""Whether decisions of canary and stable runs come from one distribution.

    Of a pair (c, s) nobody can say, under the null hypothesis, which of the two is the canary's; so with predictions p
    and q of the canary's and the stable release's next decision, made before the pair is seen,

    .. math:: E_n = E_{n-1} \frac{p(c) q(s)}{\frac12 \left( p(c) q(s) + p(s) q(c) \right)}

    is an e-process. The predictions are the shares so far with one half added to each category seen (Krichevsky,
    Trofimov 1981, IEEE Transactions on Information Theory 27, 199-207).

    Parameters
    ----------
    alpha
        Probability of a wrong "differ", ever, in (0, 1).

    Examples
    --------
    >>> homogeneity = Homogeneity()
    >>> for number in range(120):
    ...     homogeneity.add("reject" if number % 2 else "approve", "reject" if number % 10 == 0 else "approve")
    >>> homogeneity.verdict()
    'differ'

    References
    ----------
    Shekhar, Ramdas: Nonparametric two-sample testing by betting. IEEE Transactions on Information Theory 70 (2024),
    1178-1203.
    """

    alpha: float = 0.05
    pairs: int = 0
    log_evidence: float = 0.0
    canary: dict[str, int] = {}
    stable: dict[str, int] = {}

    def add(self, canary: str, stable: str) -> None:
        """Take in a pair of decisions."""
        canary, stable = (self._category(decision) for decision in (canary, stable))
        p, q = self._share(self.canary), self._share(self.stable)
        as_it_is, swapped = p(canary) * q(stable), p(stable) * q(canary)
        self.log_evidence += log(as_it_is / (0.5 * (as_it_is + swapped)))
        self.pairs += 1
        for counts, decision in ((self.canary, canary), (self.stable, stable)):
            counts[decision] = counts.get(decision, 0) + 1

    def _category(self, decision: str) -> str:
        """The decision, or one name for all that are new when there are many already."""
        known = self.canary.keys() | self.stable.keys()
        return decision if decision in known or len(known) < _CATEGORIES else "other"

    def _share(self, counts: dict[str, int]) -> Callable[[str], float]:
        categories = len({*self.canary, *self.stable}) + 1
        total = sum(counts.values()) + 0.5 * categories
        return lambda decision: (counts.get(decision, 0) + 0.5) / total

    def evidence(self) -> dict[str, float]:
        """The e-value against one distribution."""
        return {"differ": exp(min(self.log_evidence, _MAX_LOG))}

    def verdict(self) -> Verdict:
        """What can be said now."""
        return "differ" if self.evidence()["differ"] >= 1 / self.alpha else "not_enough_runs"
