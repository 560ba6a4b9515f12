"""`qethics bench detectors`: the laboratory. How long until a change is seen, at how many false alarms, by an oracle.

Run lengths are measured on many streams at once, with a restart after each alarm. Delays are steady-state: the change
comes after 1,000 observations in control, streams that alarmed before it are set aside and counted. The oracle is the
CUSUM that knows the law before and after the change, its threshold set to the same measured run length: no procedure
is faster against that change (Moustakides 1986, Annals of Statistics 14, 1379-1387). Lorden's log(ARL) / KL is the
limit for long run lengths, not a floor.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from math import log
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.special import betaln, gammaln
from scipy.stats import chi2

import detectors
from app.errors import EnvironmentFault
from detectors.bank import Bank, Baseline
from detectors.dirichlet_multinomial import DirichletMultinomial
from detectors.mixture import Rows
from detectors.model import Floats

Generator = np.random.Generator
Sampler = Callable[[Generator, int], Floats]
Say = Callable[[str], None]

IN_CONTROL: Final = 1_000
LONGEST_DELAY: Final = 4_000


class Change(NamedTuple):
    """A change: how observations are drawn after it, and its log likelihood ratio against before."""

    name: str
    after: Sampler
    ratio: Callable[[Floats], Floats]


class Signal(NamedTuple):
    """A kind of observation: how it is drawn in control, its true baseline, the changes looked at."""

    name: str
    columns: int
    before: Sampler
    baseline: Baseline
    changes: tuple[Change, ...]


class Profile(NamedTuple):
    """How much is measured."""

    streams: int
    alarms: int
    river_observations: int
    river_streams: int
    #: Jobs of the one stream that the Dirichlet-multinomial is measured on.
    distribution_jobs: int
    #: Streams of the run lengths: the fewer, the older they get.
    aging_streams: int
    #: Nominal run lengths of the curves that are drawn.
    curves: tuple[float, ...]
    #: Observations baselines are first learned from, and those they grow to.
    learned: tuple[tuple[int, int], ...]


PROFILES: Final = {
    "fast": Profile(400, 100, 10_000, 8, 60_000, 400, (300.0, 1_000.0, 3_000.0), ((500, 0),)),
    "full": Profile(
        2_000,
        400,
        500_000,
        100,
        1_000_000,
        100,
        (300.0, 1_000.0, 3_000.0, 10_000.0),
        ((100, 0), (500, 0), (1_000, 0), (200, 3_200)),
    ),
}
_WEEK_OBSERVATIONS: Final = 10_080


# -- signals -----------------------------------------------------------------------------------------------------------


def _beta_ratio(a: float, b: float, a0: float, b0: float) -> Callable[[Floats], Floats]:
    constant = betaln(a, b) - betaln(a0, b0)
    return lambda x: (a - a0) * np.log(x[:, 0]) + (b - b0) * np.log1p(-x[:, 0]) - constant


def fidelity(mean: float = 0.95, deviation: float = 0.01) -> Signal:
    """Fidelity of jobs: Beta, with a fall of the mean by 0.5, 1 and 2 standard deviations."""
    precision = mean * (1 - mean) / deviation**2 - 1

    def law(mean: float) -> tuple[float, float]:
        return mean * precision, (1 - mean) * precision

    def draws(mean: float) -> Sampler:
        a, b = law(mean)
        return lambda rng, n: rng.beta(a, b, (n, 1))

    changes = tuple(
        Change(f"-{size:g} sd", draws(mean - size * deviation), _beta_ratio(*law(mean - size * deviation), *law(mean)))
        for size in (0.5, 1.0, 2.0)
    )
    return Signal("fidelity", 1, draws(mean), Baseline(mean, deviation, "catalog"), changes)


def rate(before: float = 0.05) -> Signal:
    """A rate of yes and no: 5 % to 7.5, 10 and 20 %."""

    def draws(p: float) -> Sampler:
        return lambda rng, n: (rng.random((n, 1)) < p).astype(np.float64)

    def ratio(p: float) -> Callable[[Floats], Floats]:
        return lambda x: np.where(x[:, 0] > 0.5, log(p / before), log((1 - p) / (1 - before)))

    changes = tuple(Change(f"{p:.1%}", draws(p), ratio(p)) for p in (0.075, 0.10, 0.20))
    return Signal("rate", 1, draws(before), Baseline(before, 0.0, "catalog"), changes)


def counts(before: float = 0.05, variation: float = 0.18, shots: int = 1_000) -> Signal:
    """Errors of 1,000 shots, the rate varying by 18 % between jobs: 5 % to 6 and 7.5 %."""

    def law(p: float) -> tuple[float, float]:
        precision = (1 - p) / (variation**2 * p) - 1
        return p * precision, (1 - p) * precision

    def draws(p: float) -> Sampler:
        a, b = law(p)

        def draw(rng: Generator, n: int) -> Floats:
            return np.stack([rng.binomial(shots, rng.beta(a, b, n)), np.full(n, shots)], axis=1).astype(np.float64)

        return draw

    def ratio(p: float) -> Callable[[Floats], Floats]:
        (a, b), (a0, b0) = law(p), law(before)
        constant = betaln(a, b) - betaln(a0, b0)
        return lambda x: (
            betaln(x[:, 0] + a, x[:, 1] - x[:, 0] + b) - betaln(x[:, 0] + a0, x[:, 1] - x[:, 0] + b0) - constant
        )

    changes = tuple(Change(f"{p:.1%}", draws(p), ratio(p)) for p in (0.06, 0.075))
    return Signal("counts", 2, draws(before), Baseline(before, variation, "catalog"), changes)


def spread(mean: float = 0.95, deviation: float = 0.01) -> Signal:
    """Variance: the standard deviation grows by 1.5 and 2."""

    def draws(scale: float) -> Sampler:
        return lambda rng, n: rng.normal(mean, scale * deviation, (n, 1))

    def ratio(scale: float) -> Callable[[Floats], Floats]:
        return lambda x: -log(scale) + 0.5 * (1 - scale**-2) * ((x[:, 0] - mean) / deviation) ** 2

    changes = tuple(Change(f"sd x{scale:g}", draws(scale), ratio(scale)) for scale in (1.5, 2.0))
    return Signal("variance", 1, draws(1.0), Baseline(mean, deviation, "catalog"), changes)


def normal(mean: float = 0.95, deviation: float = 0.01) -> Signal:
    """A normal value whose mean falls by 0.5, 1 and 2 standard deviations."""

    def draws(size: float) -> Sampler:
        return lambda rng, n: rng.normal(mean - size * deviation, deviation, (n, 1))

    def ratio(size: float) -> Callable[[Floats], Floats]:
        return lambda x: -size * (x[:, 0] - mean) / deviation - 0.5 * size**2

    changes = tuple(Change(f"-{size:g} sd", draws(size), ratio(size)) for size in (0.5, 1.0, 2.0))
    return Signal("normal", 1, draws(0.0), Baseline(mean, deviation, "catalog"), changes)


#: A GHZ state of three qubits as a device shows it, 000 to 111, and how much that varies between jobs.
GHZ: Final = (0.46, 0.015, 0.015, 0.02, 0.015, 0.02, 0.015, 0.44)
GHZ_PRECISION: Final = 2_000.0
ARL_OF_SINGLES: Final = 10_000.0


def bitstrings(shots: int = 1_000) -> Signal:
    """All outcomes of a GHZ state: a share of one qubit read wrongly, or of all outcomes evened out."""
    usual = np.array(GHZ)
    flipped, even = usual[np.arange(8) ^ 1], np.full(8, 1 / 8)

    def draws(shares: Floats) -> Sampler:
        return lambda rng, n: rng.multinomial(shots, rng.dirichlet(GHZ_PRECISION * shares, n)).astype(np.float64)

    def ratio(shares: Floats) -> Callable[[Floats], Floats]:
        after, before = GHZ_PRECISION * shares, GHZ_PRECISION * usual
        constant = (gammaln(before) - gammaln(after)).sum()
        return lambda y: (gammaln(y + after) - gammaln(y + before)).sum(axis=1) + constant

    changes = []
    for name, end in (("readout", flipped), ("even", even)):
        for size in (0.01, 0.03):
            shares = (1 - size) * usual + size * end
            changes.append(Change(f"{name} {size:.0%}", draws(shares), ratio(shares)))
    return Signal("bitstrings", 8, draws(usual), Baseline(0.0, 0.0, "catalog"), tuple(changes))


SIGNALS: Final[dict[str, Callable[[], Signal]]] = {
    "fidelity": fidelity,
    "rate": rate,
    "counts": counts,
    "variance": spread,
    "normal": normal,
}
#: Detector -> the signals it is measured on.
MEASURED: Final = {
    "beta": ("fidelity",),
    "gaussian": ("normal",),
    "betting": ("fidelity",),
    "bernoulli": ("rate",),
    "beta_binomial": ("counts",),
    "variance": ("variance",),
}


# -- run lengths and delays --------------------------------------------------------------------------------------------


class RunLength(NamedTuple):
    """Average run length between false alarms, the lower limit of its 95 % interval, and hazards by age."""

    mean: float
    low: float
    alarms: int
    #: age -> alarms an observation of streams of about that age, times the mean run length.
    hazards: dict[int, float]


def _low95(observations: int, alarms: int) -> float:
    """The lower end of the 95 % interval of a run length, by the exact upper limit of a Poisson count."""
    return float(observations / (0.5 * chi2.ppf(0.975, 2 * (alarms + 1))))


def _begun(
    make: Callable[[], Bank], signal: Signal, baseline: Baseline | None, inflow: float, streams: int, rng: Generator
) -> tuple[Bank, Rows, Floats]:
    """A bank whose streams all have a baseline, its rows, and the inflow of each."""
    bank = make()
    rows = np.array([bank.add(baseline) for _ in range(streams)])
    inflows = np.full(streams, inflow)
    while bank.baseline(0) is None:
        bank.update(rows, signal.before(rng, streams), inflows)
    return bank, rows, inflows


AGES: Final = (100, 1_000, 20_000)


def run_length(
    make: Callable[[], Bank], signal: Signal, baseline: Baseline | None, inflow: float, *, streams: int, alarms: int,
    longest: int, rng: Generator,
) -> RunLength:  # fmt: skip
    """Measure the run length in control, until so many alarms were seen or so many observations made."""
    bank, rows, inflows = _begun(make, signal, baseline, inflow, streams, rng)
    age = np.zeros(streams)
    seen, made = 0, 0
    at_risk, fell = dict.fromkeys(AGES, 0), dict.fromkeys(AGES, 0)
    while seen < alarms and made < longest:
        changes = bank.update(rows, signal.before(rng, streams), inflows)
        made += streams
        age += 1
        fallen = np.zeros(streams, dtype=bool)
        for change in changes:
            if change.kind == "alarm":
                seen += 1
                fallen[change.place] = True
                bank.rearm(change.row)
        for middle in AGES:
            near = (age > middle / 2) & (age <= middle * 2)
            at_risk[middle] += int(near.sum())
            fell[middle] += int((near & fallen).sum())
        age[fallen] = 0
    mean = made / max(seen, 1)
    hazards = {middle: fell[middle] / at_risk[middle] * mean for middle in AGES if at_risk[middle] > 2 * mean}
    return RunLength(mean, _low95(made, seen), seen, hazards)


class Delay(NamedTuple):
    """Mean delay of the streams that alarmed, its standard error, and the shares that missed and that were early."""

    mean: float | None
    standard_error: float | None
    missed: float
    early: float


def delay(
    make: Callable[[], Bank], signal: Signal, change: Change, baseline: Baseline | None, inflow: float, *,
    streams: int, rng: Generator,
) -> Delay:  # fmt: skip
    """Measure the delay of a change after `IN_CONTROL` observations."""
    bank, rows, inflows = _begun(make, signal, baseline, inflow, streams, rng)
    waiting = np.ones(streams, dtype=bool)
    for _ in range(IN_CONTROL):
        for early in bank.update(rows, signal.before(rng, streams), inflows):
            waiting[early.place] = False
    kept = rows[waiting]
    delays: list[int] = []
    alive = kept
    for step in range(1, LONGEST_DELAY + 1):
        if not len(alive):
            break
        found = bank.update(alive, change.after(rng, len(alive)), np.full(len(alive), inflow))
        hit = np.array([one.place for one in found], dtype=np.intp)
        delays.extend([step] * len(hit))
        alive = np.delete(alive, hit)
    if not delays:
        return Delay(None, None, 1.0, 1 - len(kept) / streams)
    values = np.array(delays)
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return Delay(float(values.mean()), error, len(alive) / len(kept), 1 - len(kept) / streams)


def oracle_delay(signal: Signal, change: Change, arl: float, *, streams: int, rng: Generator) -> float:
    """Steady-state delay of the CUSUM that knows the change, at the run length `arl`."""
    threshold = _cusum_threshold(signal, change, arl, streams=streams, rng=rng)
    statistic = np.zeros(streams)
    kept = np.ones(streams, dtype=bool)
    for _ in range(IN_CONTROL):
        statistic = np.maximum(statistic, 0) + change.ratio(signal.before(rng, streams))
        kept &= statistic < threshold
    delays = np.zeros(streams)
    alive = kept.copy()
    for step in range(1, LONGEST_DELAY + 1):
        statistic = np.maximum(statistic, 0) + change.ratio(change.after(rng, streams))
        hit = alive & (statistic >= threshold)
        delays[hit] = step
        alive &= ~hit
        if not alive.any():
            break
    delays[alive] = LONGEST_DELAY
    return float(delays[kept].mean())


def _cusum_threshold(signal: Signal, change: Change, arl: float, *, streams: int, rng: Generator) -> float:
    """The threshold whose run length is `arl`: log run length is nearly linear in the threshold."""
    grid = np.maximum(log(arl) + np.linspace(-9.0, 0.5, 16), 0.2)
    statistic = np.zeros((streams, len(grid)))
    alarms = np.zeros(len(grid))
    steps = int(max(20 * arl / streams, 500))
    for _ in range(steps):
        statistic = np.maximum(statistic, 0) + change.ratio(signal.before(rng, streams))[:, None]
        hit = statistic >= grid
        alarms += hit.sum(axis=0)
        statistic[hit] = 0
    use = alarms >= 10
    lengths = np.log(steps * streams / alarms[use])
    slope, constant = np.polyfit(lengths, grid[use], 1)
    return float(slope * log(arl) + constant)


def information(signal: Signal, change: Change, rng: Generator) -> float:
    """Kullback-Leibler divergence of after from before, by sampling."""
    return float(change.ratio(change.after(rng, 200_000)).mean())


def doubt_at(arl: float) -> float:
    """A tenth of the false alarms that a stream of a job a minute has in a week: what a learned baseline may cost."""
    return min(0.1 * _WEEK_OBSERVATIONS / arl, 0.1)


def _source(learn: int, grow: int) -> str:
    if not learn:
        return "known"
    return f"learned from {learn}" if grow <= learn else f"learned {learn} to {grow}"


# -- the laboratory ----------------------------------------------------------------------------------------------------


def cells(profile: Profile, arl: float, seed: int, names: Sequence[str], say: Say) -> Iterator[dict[str, Any]]:
    """Every cell: detector, signal, change, baseline."""
    for name in names:
        for signal_name in MEASURED[name]:
            signal = SIGNALS[signal_name]()
            cost, size = microseconds_and_bytes(name, signal)
            known = signal.baseline
            for learn, grow in ((0, 0), *profile.learned):
                source = _source(learn, grow)
                say(f"{name} on {signal.name}, {source}")
                rng = np.random.default_rng((seed, learn))
                baseline = None if learn else known

                def make(learn: int = learn or 2, grow: int = grow, name: str = name) -> Bank:
                    return Bank(detectors.MODELS[name](), learn=learn, grow=grow, doubt=doubt_at(arl))

                length = run_length(
                    make, signal, baseline, 1 / arl, streams=profile.aging_streams if not learn else profile.streams,
                    alarms=profile.alarms, longest=int(3 * profile.alarms * arl), rng=rng,
                )  # fmt: skip
                for change in signal.changes:
                    found = delay(make, signal, change, baseline, 1 / arl, streams=profile.streams, rng=rng)
                    oracle = oracle_delay(signal, change, length.mean, streams=profile.streams, rng=rng)
                    yield {
                        "detector": name,
                        "signal": signal.name,
                        "change": change.name,
                        "baseline": source,
                        "arl_nominal": arl,
                        "arl_measured": length.mean,
                        "arl_low95": length.low,
                        "arl_alarms": length.alarms,
                        "hazard": length.hazards,
                        "delay": found.mean,
                        "delay_standard_error": found.standard_error,
                        "missed": found.missed,
                        "early": found.early,
                        "oracle_delay": oracle,
                        "lorden": log(length.mean) / information(signal, change, rng),
                        "microseconds": cost,
                        "state_bytes": size,
                    }


def microseconds_and_bytes(name: str, signal: Signal, streams: int = 10_000, rounds: int = 10) -> tuple[float, float]:
    """Cost of an observation at so many streams, and of a stream in a snapshot."""
    bank = Bank(detectors.MODELS[name]())
    rows = np.array([bank.add(signal.baseline) for _ in range(streams)])
    rng = np.random.default_rng(0)
    batches = [signal.before(rng, streams) for _ in range(rounds)]
    inflow = np.full(streams, 1e-9)
    bank.update(rows, batches[0], inflow)
    costs = []
    for batch in batches:
        began = time.perf_counter()
        bank.update(rows, batch, inflow)
        costs.append((time.perf_counter() - began) / streams * 1e6)
    return float(np.median(costs)), len(bank.snapshot()) / streams


# -- River's, as they come ---------------------------------------------------------------------------------------------

RIVER: Final = {"adwin": ("fidelity", "rate"), "page_hinkley": ("fidelity", "rate"), "kswin": ("fidelity",)}
DISTRIBUTION: Final = "dirichlet_multinomial"


class Single(NamedTuple):
    """A detector that is an object a stream: how one is made, fed, and armed again, and how much of it is measured."""

    name: str
    signal: Signal
    baseline: str
    make: Callable[[], Any]
    #: Takes in an observation; whether it alarms.
    fires: Callable[[Any, Floats], bool]
    rearm: Callable[[Any], None]
    observations: int
    streams: int
    longest: int


def singles(profile: Profile, names: Sequence[str]) -> Iterator[Single]:
    """The Dirichlet-multinomial model of a known circuit, and River's detectors with their defaults."""
    if DISTRIBUTION in names:
        of_all = bitstrings()
        names_of = [format(place, "03b") for place in range(of_all.columns)]

        def known() -> DirichletMultinomial:
            return DirichletMultinomial(3, dict(zip(names_of, GHZ, strict=True)), GHZ_PRECISION)

        def counted(detector: DirichletMultinomial, counts: Floats) -> bool:
            seen = {name: int(count) for name, count in zip(names_of, counts.tolist(), strict=True) if count}
            return detector.update(seen, 1 / ARL_OF_SINGLES) is not None

        yield Single(
            DISTRIBUTION, of_all, "known", known, counted, DirichletMultinomial.rearm, profile.distribution_jobs,
            profile.river_streams, 1_000,
        )  # fmt: skip
    for name in RIVER:
        if name in names:
            # KSWIN costs some 400 us an observation, a thousand times the others.
            few = name == "kswin"
            observations = max(profile.river_observations // (50 if few else 1), 5_000)
            streams = max(profile.river_streams // (8 if few else 1), 4)
            for signal_name in RIVER[name]:
                yield Single(
                    name, SIGNALS[signal_name](), "its own past", detectors.REGISTRY[name], _fires, lambda _: None,
                    observations, streams, 1_000 if few else LONGEST_DELAY,
                )  # fmt: skip


def single_cells(single: Single, seed: int, say: Say) -> Iterator[dict[str, Any]]:
    """The same cells of a detector that is an object a stream."""
    signal, fires = single.signal, single.fires
    say(f"{single.name} on {signal.name}")
    rng = np.random.default_rng(seed)
    detector, alarms = single.make(), 0
    values = signal.before(rng, single.observations)
    began = time.perf_counter()
    for value in values:
        if fires(detector, value):
            alarms += 1
            single.rearm(detector)
    cost = (time.perf_counter() - began) / single.observations * 1e6
    promised = single.name == DISTRIBUTION
    length = single.observations / max(alarms, 1)
    for change in signal.changes:
        delays, early = [], 0
        for _ in range(single.streams):
            detector = single.make()
            if any([fires(detector, value) for value in signal.before(rng, IN_CONTROL)]):
                early += 1
                continue
            after = change.after(rng, single.longest)
            delays.append(next((step for step, value in enumerate(after, 1) if fires(detector, value)), None))
        found = [one for one in delays if one is not None]
        yield {
            "detector": single.name,
            "signal": signal.name,
            "change": change.name,
            "baseline": single.baseline,
            "arl_nominal": ARL_OF_SINGLES if promised else None,
            "arl_measured": length if alarms else None,
            "arl_low95": _low95(single.observations, alarms),
            "arl_alarms": alarms,
            "hazard": {},
            "delay": float(np.mean(found)) if found else None,
            "delay_standard_error": float(np.std(found, ddof=1) / len(found) ** 0.5) if len(found) > 1 else None,
            "missed": 1 - len(found) / len(delays) if delays else None,
            "early": early / single.streams,
            "oracle_delay": oracle_delay(signal, change, length, streams=400, rng=rng) if promised else None,
            "lorden": log(length) / information(signal, change, rng) if promised else None,
            "microseconds": cost,
            "state_bytes": len(detector.snapshot()),
        }


def _fires(detector: detectors.Detector, value: Floats) -> bool:
    detector.update(float(value[0]))
    return detector.drift_detected


# -- the report --------------------------------------------------------------------------------------------------------


def run(*, profile: str, arl: float, seed: int, names: Sequence[str], say: Say) -> dict[str, Any]:
    """Measure and report.

    Parameters
    ----------
    profile
        ``fast`` (within a minute) or ``full``.
    arl
        Nominal run length: observations between false alarms; of the Dirichlet-multinomial it is always 10,000.
    seed
        Of everything random.
    names
        Models and detectors to measure; empty means all.
    say
        Shows progress.
    """
    chosen = names or KNOWN
    found = list(cells(PROFILES[profile], arl, seed, [name for name in chosen if name in MEASURED], say))
    for single in singles(PROFILES[profile], chosen):
        found += single_cells(single, seed, say)
    return {"profile": profile, "seed": seed, "arl_nominal": arl, "cells": found}


KNOWN: Final = (*MEASURED, DISTRIBUTION, *RIVER)


def curves(profile: Profile, seed: int, names: Sequence[str], say: Say) -> Iterator[dict[str, Any]]:
    """Delays at several run lengths with a known baseline; a point is (run length, delay, the oracle's delay)."""
    for name in names:
        for signal_name in MEASURED[name]:
            signal = SIGNALS[signal_name]()
            points: dict[str, list[tuple[float, float | None, float]]] = {change.name: [] for change in signal.changes}
            for arl in profile.curves:
                say(f"{name} on {signal.name} at {arl:,.0f}")
                rng = np.random.default_rng(seed)

                def make(name: str = name) -> Bank:
                    return Bank(detectors.MODELS[name]())

                length = run_length(
                    make, signal, signal.baseline, 1 / arl, streams=profile.streams, alarms=profile.alarms // 2,
                    longest=int(3 * profile.alarms * arl), rng=rng,
                )  # fmt: skip
                for change in signal.changes:
                    found = delay(make, signal, change, signal.baseline, 1 / arl, streams=profile.streams, rng=rng)
                    oracle = oracle_delay(signal, change, length.mean, streams=profile.streams, rng=rng)
                    points[change.name].append((length.mean, found.mean, oracle))
            for change_name, found_points in points.items():
                yield {"detector": name, "signal": signal.name, "change": change_name, "points": found_points}


def require_drawing() -> None:
    """Find out whether `plot` can draw, before minutes are spent on what it is to draw.

    Raises
    ------
    EnvironmentFault
        If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise EnvironmentFault("not installed: matplotlib", "run `make install-bench`")


def plot(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw `curves`, delay against measured run length with the oracle beside it, as SVG."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - only who draws needs it

    signals = list(dict.fromkeys(curve["signal"] for curve in found))
    figure, axes = plt.subplots(len(signals), 1, figsize=(8, 4 * len(signals)), squeeze=False)
    for axis, signal in zip(axes[:, 0], signals, strict=True):
        for curve in found:
            if curve["signal"] == signal:
                lengths, delays, oracles = zip(*curve["points"], strict=True)
                (line,) = axis.plot(lengths, delays, "o-", label=f"{curve['detector']} {curve['change']}")
                axis.plot(lengths, oracles, "x--", color=line.get_color(), linewidth=0.8)
        axis.set(xscale="log", yscale="log", title=f"{signal} (dashed: oracle CUSUM)")
        axis.set(xlabel="measured run length, observations", ylabel="mean delay, observations")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, format="svg")
    plt.close(figure)


_COLUMNS: Final = (
    ("detector", 21), ("signal", 10), ("change", 11), ("baseline", 17), ("ARL", 9), ("low 95 %", 9), ("delay", 8),
    ("missed", 7), ("early", 6), ("oracle", 7), ("x oracle", 8), ("Lorden", 7), ("us", 6), ("bytes", 6),
)  # fmt: skip


def table(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    lines = ["".join(f"{name:>{width + 1}}" for name, width in _COLUMNS)]
    for cell in report["cells"]:
        delay, oracle = cell["delay"], cell["oracle_delay"]
        values = (
            cell["detector"], cell["signal"], cell["change"], cell["baseline"],
            _number(cell["arl_measured"], 0), _number(cell["arl_low95"], 0), _number(delay, 1),
            _number(cell["missed"], 2), _number(cell["early"], 2), _number(oracle, 1),
            _number(delay / oracle if delay and oracle else None, 2), _number(cell["lorden"], 1),
            _number(cell["microseconds"], 2), _number(cell["state_bytes"], 0),
        )  # fmt: skip
        lines.append("".join(f"{value:>{width + 1}}" for value, (_, width) in zip(values, _COLUMNS, strict=True)))
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
