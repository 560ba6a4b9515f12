"""Change of a whole distribution of bitstrings, along the ways in which devices go bad."""

from collections.abc import Mapping
from math import sqrt
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtri

from detectors.mixture import Mixture, triple
from detectors.model import Floats, ratio

#: Wider circuits are watched by their fidelity and error rate: 2^width outcomes are too many to learn.
MAX_WIDTH: Final = 8
#: What no job has shown is still possible: this share of a baseline is spread evenly.
_EVEN: Final = 1e-3
_MOST_PRECISE: Final = 1e5
#: The memory of recent shares, in jobs.
_MEMORY_JOBS: Final = 10
_VERSION: Final = 2


class Moved(NamedTuple):
    """An alarm: the ways that explain it best (share of evidence), and the outcomes whose share moved most.

    `observations` is how many jobs ago the change is estimated to have begun, `evidence` the e-value, `spent` the
    expected number of false alarms since the last restart. `outcomes` are (bitstring, share before, share lately).
    """

    ways: tuple[tuple[str, float], ...]
    outcomes: tuple[tuple[str, float, float], ...]
    observations: float
    evidence: float
    spent: float


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    width: int
    learn: int
    sizes: list[float]
    jobs: int
    jobs_learned: int
    shots: float
    sums: bytes
    squares: bytes
    baseline: bytes
    recent: bytes
    precision: float
    out: bool
    mixture: bytes


class DirichletMultinomial:
    r"""Counts of all outcomes of one circuit on one device, the distribution itself varying between jobs.

    A job's distribution is drawn from a Dirichlet law with mean q and precision :math:`\varphi`, so for counts y of N

    .. math:: P(y) \propto \frac{\Gamma(\varphi)}{\Gamma(N + \varphi)}
              \prod_i \frac{\Gamma(y_i + \varphi q_i)}{\Gamma(\varphi q_i)}.

    Alternatives keep the precision and move a share :math:`\varepsilon_k` of q along one way: to the uniform
    distribution (depolarizing), through a flip of one qubit (readout), or of one qubit to 0 (relaxation). The evidence
    for each is the Shiryaev-Roberts statistic of `Mixture`. Of a learned baseline the null law moves towards each
    alternative as far as it may be wrong in that direction (`detectors.model.Model`), and an alternative that is no
    further is left out.

    Parameters
    ----------
    width
        Qubits, 1 to 8.
    baseline
        Bitstring -> probability, with `precision`; without it, both are learned from the first `learn` jobs.
    precision
        :math:`\varphi` > 0.
    learn
        Jobs to learn from, >= 10.
    sizes
        Shares moved, in (0, 1).
    doubt
        Probability that a learned baseline is further from the truth, in the direction of an alternative, than is
        allowed for; in (0, 0.5).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> ghz = {"000": 0.48, "111": 0.46, "110": 0.03, "011": 0.03}
    >>> bad = {"001": 0.48, "110": 0.46, "111": 0.03, "010": 0.03}  # qubit 0 read wrongly
    >>> def job(wrong):
    ...     shares = {x: (1 - wrong) * ghz.get(x, 0) + wrong * bad.get(x, 0) + 1e-4 for x in {**ghz, **bad}}
    ...     drawn = rng.dirichlet([2000 * share for share in shares.values()])
    ...     return dict(zip(shares, rng.multinomial(1000, drawn / drawn.sum()).tolist()))
    >>> detector = DirichletMultinomial(3, ghz, precision=2000.0)
    >>> any(detector.update(job(0.0), 1e-4) for _ in range(300))
    False
    >>> alarms = [alarm for _ in range(20) if (alarm := detector.update(job(0.05), 1e-4))]
    >>> alarms[0].ways[0][0]
    'readout of qubit 0'

    References
    ----------
    Mosimann: On the compound multinomial distribution. Biometrika 49 (1962), 65-82. Hohle: Online change-point
    detection in categorical time series (2010).
    """

    name: Final = "dirichlet_multinomial"

    def __init__(
        self,
        width: int,
        baseline: Mapping[str, float] | None = None,
        precision: float = 0.0,
        *,
        learn: int = 100,
        sizes: tuple[float, ...] = (0.01, 0.03, 0.1),
        doubt: float = 1e-3,
    ) -> None:
        if not 1 <= width <= MAX_WIDTH or learn < 10 or not all(0 < size < 1 for size in sizes):
            raise ValueError(f"width 1 to {MAX_WIDTH}, learn >= 10, sizes in (0, 1); not {width}, {learn}, {sizes}")
        if not 0 < doubt < 0.5:
            raise ValueError(f"doubt is in (0, 0.5), not {doubt}")
        self.width = width
        self._learn = learn
        self._doubt = doubt
        self._sizes = sizes
        self._outcomes = 1 << width
        self._ways = (
            "depolarizing",
            *(f"{way} of qubit {q}" for way in ("readout", "relaxation") for q in range(width)),
        )
        # Every gate depolarizes, and a share of all outcomes is hard to see: half of the prior is for that.
        by_way = np.array([0.5, *np.full(2 * width, 0.25 / width)])
        self._mixture = Mixture(np.tile(by_way / len(sizes), len(sizes)), 1)
        self._jobs = 0
        #: Jobs and shots that the baseline was learned from; 0 where it was given.
        self._jobs_learned = 0
        self._shots = 0.0
        self._sums, self._squares = np.zeros(self._outcomes), np.zeros(self._outcomes)
        self._baseline = np.zeros(self._outcomes)
        self._recent = np.zeros(self._outcomes)
        self._precision = 0.0
        self._out = False
        if baseline is not None:
            shares = np.zeros(self._outcomes)
            for bitstring, probability in baseline.items():
                shares[self._index(bitstring)] = probability
            self._arm(shares, precision)

    @property
    def learning(self) -> bool:
        """Whether it has no baseline yet."""
        return self._precision == 0

    @property
    def out(self) -> bool:
        """Whether it has alarmed; `rearm` lets it alarm again."""
        return self._out

    def rearm(self) -> None:
        """Let it alarm again."""
        self._restart()
        self._out = False

    def _restart(self) -> None:
        self._mixture.restart(0)

    def _index(self, bitstring: str) -> int:
        if len(bitstring) != self.width or bitstring.strip("01"):
            raise ValueError(f"{bitstring!r} is no outcome of {self.width} qubits")
        return int(bitstring, 2)

    def _arm(self, shares: Floats, precision: float) -> None:
        if not precision > 0 or shares.min() < 0 or abs(shares.sum() - 1) > 1e-6:
            raise ValueError("a baseline is a probability distribution with a precision > 0")
        self._baseline = (1 - _EVEN) * shares + _EVEN / self._outcomes
        self._recent = self._baseline.copy()
        self._precision = min(precision, _MOST_PRECISE)
        self._prepare()

    def _prepare(self) -> None:
        """The alternatives' parameters, shape (K, outcomes), and the null's; a function of baseline and precision."""
        q, numbers = self._baseline, np.arange(self._outcomes)
        ends = [np.full(self._outcomes, 1 / self._outcomes)]
        ends += [q[numbers ^ (1 << qubit)] for qubit in range(self.width)]
        for qubit in range(self.width):
            excited = (numbers >> qubit & 1).astype(bool)
            relaxed = np.where(excited, 0.0, q + q[numbers ^ (1 << qubit)])
            ends.append(relaxed)
        moved = np.concatenate([[(1 - size) * q + size * end for end in ends] for size in self._sizes])
        # Of a way that empties an outcome, a little stays: what is impossible under an alternative proves nothing.
        moved = (1 - _EVEN) * moved + _EVEN / self._outcomes
        nulls, apart = q, np.ones(len(moved), dtype=bool)
        if self._shots:
            # Along each way the learned shares err like a mean: by 1 / sqrt(jobs) of what one job varies.
            variance = q * (self._jobs_learned / self._shots + 1 / self._precision)
            distance = np.sqrt((((moved - q) ** 2) / variance).sum(axis=1))
            share = -ndtri(self._doubt) / sqrt(self._jobs_learned) / distance
            apart = share < 1
            nulls = q + np.minimum(share, 1.0)[:, None] * (moved - q)
        self._alternatives = self._precision * moved
        self._null = self._precision * nulls
        self._apart = apart
        self._constant = gammaln(self._alternatives) - gammaln(self._null)

    def update(self, counts: Mapping[str, int], inflow: float) -> Moved | None:
        """Take in the counts of one job.

        Parameters
        ----------
        counts
            Bitstring -> times seen, >= 0, not all 0.
        inflow
            The expected false alarms it may add, >= 0.

        Raises
        ------
        ValueError
            If there are no counts, a negative one, or an outcome of another width; the state is then unchanged.
        """
        seen = {self._index(bitstring): count for bitstring, count in counts.items() if count}
        if not seen or min(seen.values()) < 0:
            raise ValueError("counts are not negative, and not all 0")
        places = np.fromiter(sorted(seen), dtype=np.intp)
        y = np.array([float(seen[place]) for place in places.tolist()])
        self._jobs += 1
        if self.learning:
            self._teach(places, y)
            return None
        self._recent *= 1 - 1 / _MEMORY_JOBS
        self._recent[places] += y / y.sum() / _MEMORY_JOBS
        if self._out:
            return None
        terms = gammaln(y + self._alternatives[:, places]) - gammaln(y + self._null[..., places])
        exponent = np.where(self._apart, (terms - self._constant[:, places]).sum(axis=1), -np.inf)
        rows = np.array([0])
        statistic = float(self._mixture.step(rows, triple(ratio(exponent)[None]), np.zeros(1), np.array([inflow]))[0])
        return self._alarm(statistic) if statistic >= 1 else None

    def _teach(self, places: NDArray[np.intp], y: Floats) -> None:
        shots = float(y.sum())
        self._shots += shots
        self._sums[places] += y
        self._squares[places] += y * y / shots
        if self._jobs >= self._learn:
            self._jobs_learned = self._jobs
            self._arm(self._sums / self._shots, self._learned_precision())

    def _learned_precision(self) -> float:
        """From Pearson's statistic of the jobs about their mean, at the cautious limit of its dispersion."""
        caution = -float(ndtri(self._doubt))
        q = self._sums / self._shots
        usual = q * self._shots / self._jobs >= 1
        pearson = (self._squares[usual] - 2 * q[usual] * self._sums[usual] + q[usual] ** 2 * self._shots) / q[usual]
        degrees = max((self._jobs - 1) * max(int(usual.sum()) - 1, 1), 1)
        dispersion = float(pearson.sum()) / degrees * (1 + caution * sqrt(2 / degrees))
        shots = self._shots / self._jobs
        return (shots - 1) / max(dispersion - 1, (shots - 1) / _MOST_PRECISE) - 1 if shots > 2 else 1.0

    def _alarm(self, statistic: float) -> Moved:
        shares, age, _, spent = self._mixture.posterior(0)
        by_way = shares.reshape(len(self._sizes), len(self._ways)).sum(axis=0)
        ways = tuple((self._ways[way], float(by_way[way])) for way in np.argsort(-by_way)[:3].tolist())
        change = np.abs(self._recent - self._baseline)
        outcomes = tuple(
            (f"{place:0{self.width}b}", float(self._baseline[place]), float(self._recent[place]))
            for place in np.argsort(-change)[:5].tolist()
        )
        moved = Moved(ways, outcomes, age, statistic / spent, spent)
        self._restart()
        self._out = True
        return moved

    def snapshot(self) -> bytes:
        """The whole state: msgpack, no code."""
        return msgspec.msgpack.encode(
            _Snapshot(
                _VERSION,
                self.width,
                self._learn,
                list(self._sizes),
                self._jobs,
                self._jobs_learned,
                self._shots,
                self._sums.tobytes(),
                self._squares.tobytes(),
                self._baseline.tobytes(),
                self._recent.tobytes(),
                self._precision,
                self._out,
                self._mixture.state.tobytes(),
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Continue exactly where `snapshot` was taken.

        Raises
        ------
        ValueError
            If it was taken with other parameters, by other code, or is damaged.
        """
        try:
            found = msgspec.msgpack.decode(snapshot, type=_Snapshot)
            arrays = [np.frombuffer(raw) for raw in (found.sums, found.squares, found.baseline, found.recent)]
            mixture = Mixture(self._mixture.weights, 1)
            mixture.state = np.frombuffer(found.mixture).reshape(mixture.state.shape).copy()
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"the snapshot is damaged: {error}") from error
        here = (_VERSION, self.width, self._learn, list(self._sizes))
        if (found.version, found.width, found.learn, found.sizes) != here:
            raise ValueError(f"the snapshot is not of {here}")
        self._sums, self._squares, self._baseline, self._recent = (array.copy() for array in arrays)
        self._jobs, self._jobs_learned, self._shots = found.jobs, found.jobs_learned, found.shots
        self._precision = found.precision
        self._out, self._mixture = found.out, mixture
        if not self.learning:
            self._prepare()
