"""Replays against the runs that they repeat (M2, F6): chosen by a recorded seed, compared by what the task is.

What is sampled is compared by a two-sample test of homogeneity on the counts. Two jobs of one circuit differ by more
than shot noise, because a device is not the same an hour later; with overdispersion rho the variance of a share is that
of n shots times phi = 1 + (n - 1) rho (Dirichlet-multinomial: Mosimann 1962), and Pearson's statistic over the pooled
shares p, sum (x - y)^2 / p / (phi_x / n_x + phi_y / n_y), is chi-squared as before (Rao and Scott 1981). Of all
differences at a total variation distance t the one that is hardest to see has the non-centrality
4 t^2 / (phi_x / n_x + phi_y / n_y), so a replay that could not have shown the distance that matters is called
underpowered, not matched.
"""

from collections.abc import Mapping
from math import pi, sqrt
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri, chndtr
from xxhash import xxh3_64_intdigest

from app.core.bitstrings import unpacked

Answer = Literal["matched", "not_matched", "underpowered"]
ANSWERS: Final[tuple[Answer, ...]] = ("matched", "not_matched", "underpowered")
#: Outcomes that are expected less often than this in either sample share a cell (Cochran 1954).
_LEAST_EXPECTED: Final = 5.0
#: A replay that shows the distance that matters less often than this is underpowered.
_LEAST_POWER: Final = 0.8
_SHARES: Final = 2**64

Floats = NDArray[np.float64]


class Replays(Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs are to be replayed, and how replays are compared."""

    #: Tier -> the share of its runs; which runs those are follows from the seed and their ids.
    shares: Mapping[str, Annotated[float, Meta(ge=0, le=1)]]
    seed: Annotated[str, Meta(min_length=1, max_length=100)]
    #: The share of good replays that is called not matched.
    alpha: Annotated[float, Meta(gt=0, lt=0.5)]
    #: The total variation distance that matters.
    distance: Annotated[float, Meta(gt=0, le=1)]
    #: Correlation of the shots of one job, in [0, 1): 0 is a device that never changes.
    overdispersion: Annotated[float, Meta(ge=0, lt=1)]
    #: Originals that wait for their replay in a partition, at most.
    kept: Annotated[int, Meta(ge=1, le=100_000)]

    def chosen(self, run_id: str, share: float) -> bool:
        """Whether a run is among that share of all runs. What is chosen of a smaller share is of a larger one too."""
        return xxh3_64_intdigest(f"{self.seed}\x1f{run_id}".encode()) < share * _SHARES

    @property
    def most(self) -> float:
        """The largest share of any tier."""
        return max(self.shares.values(), default=0.0)


class Counted(Struct, frozen=True, gc=False, array_like=True):
    """Counts of a run that may be replayed (`replay_of` None), or of a replay; `outcomes` packed."""

    offset: int
    at: Annotated[float, Meta(ge=0, le=5e9)]
    run_id: str
    workload: str
    replay_of: str | None
    outcomes: bytes


class Kept(Struct, frozen=True, gc=False, array_like=True):
    """What waits for its other half."""

    at: float
    run_id: str
    outcomes: bytes


class Compared(NamedTuple):
    """What a comparison says."""

    answer: Answer
    #: Total variation distance of the two samples, and what chance alone makes of it on average.
    distance: float
    floor: float
    p_value: float
    #: The least probability of seeing the distance that matters.
    power: float


class Waiting(Struct, array_like=True):
    """Originals without a replay and replays without an original, in the order they came."""

    originals: dict[str, Kept] = field(default_factory=dict)
    replays: dict[str, Kept] = field(default_factory=dict)

    def take(self, counted: Counted, kept: int) -> tuple[Kept, Kept] | None:
        """Take in counts; the original and the replay, once both are there. Of a run the first counts stand."""
        one = Kept(counted.at, counted.run_id, counted.outcomes)
        if counted.replay_of is None:
            replay = self.replays.pop(counted.run_id, None)
            if replay is not None:
                return one, replay
            self.originals.setdefault(counted.run_id, one)
        else:
            original = self.originals.pop(counted.replay_of, None)
            if original is not None:
                return original, one
            self.replays.setdefault(counted.replay_of, one)
        for waiting in (self.originals, self.replays):
            while len(waiting) > kept:
                del waiting[next(iter(waiting))]
        return None


def compare(original: bytes, replay: bytes, rules: Replays, *, deterministic: bool) -> Compared:
    """Compare a replay with its original.

    Parameters
    ----------
    original, replay
        Their counts, packed.
    rules
        Level, distance and overdispersion.
    deterministic
        Whether the task has one answer: then the outcomes must be equal, whatever the number of shots.
    """
    one, other = ({name: count for name, count in unpacked(each).items() if count} for each in (original, replay))
    names = sorted({*one, *other})
    x = np.array([one.get(name, 0) for name in names], dtype=float)
    y = np.array([other.get(name, 0) for name in names], dtype=float)
    n, m = float(x.sum()), float(y.sum())
    if not n or not m:
        return Compared("underpowered", 0.0, 0.0, 1.0, 0.0)
    distance = float(np.abs(x / n - y / m).sum() / 2)
    if deterministic:
        equal = set(one) == set(other)
        return Compared("matched" if equal else "not_matched", distance, 0.0, float(equal), 1.0)
    noise = (1 + (n - 1) * rules.overdispersion) / n + (1 + (m - 1) * rules.overdispersion) / m
    x, y, hidden = _pooled(x, y)
    share = (x + y) / (n + m)
    floor = float(np.sqrt(share * (1 - share) * noise).sum() * sqrt(2 / pi) / 2)
    degrees = len(share) - 1
    if not degrees or hidden >= rules.distance:
        # What is in one cell agrees as far as can be seen: fully, if it is one outcome; what is rare, not at all.
        return Compared("matched" if len(names) == 1 else "underpowered", distance, floor, 1.0, float(len(names) == 1))
    statistic = float(((x / n - y / m) ** 2 / share).sum() / noise)
    p_value = float(chdtrc(degrees, statistic))
    limit = float(chdtri(degrees, rules.alpha))
    power = 1 - float(chndtr(limit, degrees, 4 * rules.distance**2 / noise))
    if p_value < rules.alpha:
        return Compared("not_matched", distance, floor, p_value, power)
    return Compared("matched" if power >= _LEAST_POWER else "underpowered", distance, floor, p_value, power)


def _pooled(x: Floats, y: Floats) -> tuple[Floats, Floats, float]:
    """Counts with the rare outcomes in one cell, and the share that is in it: differences within it are not seen."""
    n, m = x.sum(), y.sum()
    expected = (x + y) / (n + m) * min(n, m)
    rare = expected < _LEAST_EXPECTED
    if rare.sum() < 2:
        return x, y, 0.0
    cells = [np.append(each[~rare], each[rare].sum()) for each in (x, y)]
    return cells[0], cells[1], float((x + y)[rare].sum() / (n + m))
