"""Laws of every model, and of the bank that runs them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import detectors
from detectors import MODELS, Bank, Baseline
from detectors.model import Known

#: Model -> (baseline, draws before, draws after a change it should see, longest delay).
BETA, FALLEN = (450.3, 23.7), (440.8, 33.2)
FIDELITY, RATE, COUNTS = (
    Baseline(0.95, 0.01, "catalog"),
    Baseline(0.05, 0.0, "catalog"),
    Baseline(0.05, 0.18, "catalog"),
)


def normal(mean, deviation):
    return lambda rng, n: rng.normal(mean, deviation, n)


def beta(a, b):
    return lambda rng, n: rng.beta(a, b, n)


def yes(rate):
    return lambda rng, n: 1.0 * (rng.random(n) < rate)


def jobs(rate, variation=0.18, shots=1000):
    precision = (1 - rate) / (variation**2 * rate) - 1

    def draw(rng, n):
        rates = rng.beta(rate * precision, (1 - rate) * precision, n)
        return np.stack([rng.binomial(shots, rates), np.full(n, shots)], 1)

    return draw


KNOWN = {
    "gaussian": (FIDELITY, normal(0.95, 0.01), normal(0.93, 0.01), 30),
    "beta": (FIDELITY, beta(*BETA), beta(*FALLEN), 30),
    "bernoulli": (RATE, yes(0.05), yes(0.2), 150),
    "beta_binomial": (COUNTS, jobs(0.05), jobs(0.075), 30),
    "betting": (Baseline(0.95, 0.0, "catalog"), beta(*BETA), beta(*FALLEN), 60),
    "variance": (FIDELITY, normal(0.95, 0.01), normal(0.95, 0.02), 60),
}
INFLOW = 1e-4
#: With a learned mean and nothing assumed, only what is further than a bound for any law is a change.
LARGER = {"betting": beta(400, 75)}

every = pytest.mark.parametrize("name", MODELS)


def shaped(name, values):
    return np.asarray(values, dtype=np.float64).reshape(-1, MODELS[name]().columns)


def bank_of(name, streams=1, **more):
    bank = Bank(MODELS[name](), **more)
    for _ in range(streams):
        bank.add(KNOWN[name][0])
    return bank


def test_every_model_file_is_registered_and_under_the_laws():
    files = {path.stem for path in Path(detectors.__file__).parent.glob("*.py")}
    shared = {"__init__", "protocol", "bank", "mixture", "model", "dirichlet_multinomial", "canary", "calibration"}
    assert files - shared - set(detectors.REGISTRY) == set(MODELS) == set(KNOWN)


def law(name):
    """Values with their probabilities before the change: a fine grid, or all there are."""
    if name == "bernoulli":
        return np.array([0.0, 1.0]), np.array([0.95, 0.05])
    if name == "beta_binomial":
        precision = 0.95 / (0.18**2 * 0.05) - 1
        y = np.arange(1001)
        values = np.stack([y, np.full(1001, 1000)], 1)
        return values, stats.betabinom(1000, 0.05 * precision, 0.95 * precision).pmf(y)
    if name in {"beta", "betting"}:
        precision = 0.95 * 0.05 / 1e-4 - 1
        x = np.linspace(1e-6, 1 - 1e-6, 400_001)
        return x, stats.beta(0.95 * precision, 0.05 * precision).pdf(x) * (x[1] - x[0])
    x = np.linspace(0.75, 1.15, 400_001)
    return x, stats.norm(0.95, 0.01).pdf(x) * (x[1] - x[0])


@every
def test_a_ratio_is_1_on_average_while_nothing_has_changed(name):
    """The one property that the promise rests on, by summing over the law."""
    baseline = KNOWN[name][0]
    model = MODELS[name]()
    values, probabilities = law(name)
    coefficients = model.coefficients(Known.given(baseline.location, baseline.spread), 1e-3)
    ratios = model.ratios(shaped(name, values), np.broadcast_to(coefficients, (len(values), *coefficients.shape[1:])))
    assert probabilities.sum() == pytest.approx(1, abs=1e-6)
    mean = (ratios * probabilities[:, None]).sum(axis=0)
    assert (mean <= 1 + 1e-5).all()
    assert (mean >= 1 - 1e-4).all()  # less only by what is cut off above exp(50)


@every
def test_weights_are_shares_and_shifts_look_both_ways_or_one(name):
    model = MODELS[name]()
    assert model.weights.sum() == pytest.approx(1)
    assert (model.weights > 0).all()
    assert len(model.weights) == len(model.shifts) <= 12
    with pytest.raises(ValueError, match="direction"):
        MODELS[name](direction="sideways")


def ratio_of(name, value, baseline, index):
    model = MODELS[name]()
    coefficients = model.coefficients(Known.given(baseline.location, baseline.spread), 1e-3)
    return float(np.log(model.ratios(shaped(name, [value]), coefficients)[0, index]))


def test_ratios_are_those_of_the_laws_in_scipy():
    gaussian = MODELS["gaussian"]()
    shift = gaussian.shifts[3] * 0.01
    expected = stats.norm(0.95 + shift, 0.01).logpdf(0.942) - stats.norm(0.95, 0.01).logpdf(0.942)
    assert ratio_of("gaussian", 0.942, KNOWN["gaussian"][0], 3) == pytest.approx(expected)
    precision = 0.95 * 0.05 / 1e-4 - 1
    mean = 0.95 + MODELS["beta"]().shifts[2] * 0.01
    laws = [stats.beta(m * precision, (1 - m) * precision) for m in (mean, 0.95)]
    assert ratio_of("beta", 0.93, KNOWN["beta"][0], 2) == pytest.approx(laws[0].logpdf(0.93) - laws[1].logpdf(0.93))
    odds = 0.05 / 0.95 * np.exp(MODELS["beta_binomial"]().shifts[3])
    rates = odds / (1 + odds), 0.05
    laws = []
    for rate in rates:
        precision = (1 - rate) / (0.18**2 * rate) - 1
        laws.append(stats.betabinom(1000, rate * precision, (1 - rate) * precision))
    expected = laws[0].logpmf(71) - laws[1].logpmf(71)
    assert ratio_of("beta_binomial", (71, 1000), KNOWN["beta_binomial"][0], 3) == pytest.approx(expected)
    factor = np.exp(MODELS["variance"]().shifts[1])
    expected = stats.norm(0.95, 0.01 * factor).logpdf(0.97) - stats.norm(0.95, 0.01).logpdf(0.97)
    assert ratio_of("variance", 0.97, KNOWN["variance"][0], 1) == pytest.approx(expected)


def test_the_recursion_by_hand():
    """Two observations of a rate of 0.5 against odds of 3: R = (0 + a) 1.5 = 0.15, then (0.15 + a) 0.5 = 0.125."""
    bank = Bank(MODELS["bernoulli"](sizes=(float(np.log(3)),)))
    row = bank.add(Baseline(0.5, 0.0, "catalog"))
    assert bank.run(row, [1.0, 0.0], 0.1) == []
    statistic = bank._mixture.state[row, 0]
    assert statistic == pytest.approx(0.125)


@every
def test_it_sees_the_change_once_and_says_what_it_is(name):
    baseline, before, after, longest = KNOWN[name]
    rng = np.random.default_rng(7)
    bank = bank_of(name)
    values = np.concatenate([before(rng, 1000), after(rng, 400)])
    changes = bank.run(0, values, INFLOW)
    (alarm,) = changes
    assert 1000 <= alarm.place < 1000 + longest
    assert bank.out(0)
    assert alarm.low < alarm.size < alarm.high
    assert alarm.evidence > 1 / alarm.spent > 0
    assert abs((alarm.place - alarm.observations) - 1000) < 3 * longest
    if name != "variance":
        direction = "down" if name in {"gaussian", "beta", "betting"} else "up"
        assert alarm.direction == direction
        assert (alarm.size < 0) == (direction == "down")
    assert bank.baseline(0) == baseline


@every
def test_a_stream_that_returns_is_seen_to_and_can_alarm_again(name):
    _, before, after, longest = KNOWN[name]
    rng = np.random.default_rng(4)
    bank = bank_of(name)
    # Bets that assume nothing need ten times as long to be sure of an end.
    back = 4000 if name == "betting" else 800
    values = shaped(name, np.concatenate([before(rng, 300), after(rng, 300), before(rng, back), after(rng, 300)]))
    rows, inflow = np.zeros(len(values), dtype=np.intp), np.full(len(values), INFLOW)
    kinds = [(change.kind, change.place) for change in bank.update(rows, values, inflow)]
    assert [kind for kind, _ in kinds] == ["alarm", "recovery", "alarm"]
    assert 600 <= kinds[1][1] < 500 + back
    assert 600 + back <= kinds[2][1] < 600 + back + longest


@every
def test_armed_again_by_hand_a_change_that_stays_alarms_again(name):
    _, _, after, longest = KNOWN[name]
    rng = np.random.default_rng(3)
    bank = bank_of(name)
    assert len(bank.run(0, after(rng, 400), INFLOW)) == 1
    bank.rearm(0)
    assert len(bank.run(0, after(rng, 2 * longest), INFLOW)) == 1


@every
def test_learned_it_sees_the_change_too_and_the_baseline_says_so(name):
    _, before, after, longest = KNOWN[name]
    rng = np.random.default_rng(5)
    bank = Bank(MODELS[name](), learn=500)
    row = bank.add()
    assert bank.run(row, before(rng, 499), INFLOW) == []
    assert bank.baseline(row) is None
    assert bank.run(row, before(rng, 501), INFLOW) == []
    learned = bank.baseline(row)
    assert (learned.kind, learned.observations) == ("learned", 500)
    assert learned.location == pytest.approx(KNOWN[name][0].location, rel=0.2)
    assert len(bank.run(row, LARGER.get(name, after)(rng, 3 * longest), INFLOW)) == 1


@every
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_however_it_is_cut_and_restored_the_state_is_the_same_to_the_bit(name, data):
    # Few streams are followed one by one, many in arrays; pieces of a batch may go one way and the whole the other.
    streams, total = data.draw(st.sampled_from([3, 40])), 240
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    _, before, after, _ = KNOWN[name]
    rows = rng.integers(0, streams, total)
    values = shaped(name, np.concatenate([before(rng, total // 2), after(rng, total - total // 2)]))
    inflow = rng.random(total) * 0.01
    cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=8)))

    def fresh():
        bank = Bank(MODELS[name](), learn=20)
        for number in range(streams):
            bank.add(KNOWN[name][0] if number % 2 else None)
        return bank

    whole, part = fresh(), fresh()
    expected = whole.update(rows, values, inflow)
    found = []
    for first, last in zip([0, *cuts], [*cuts, total], strict=True):
        piece = slice(first, last)
        found += [c._replace(place=c.place + first) for c in part.update(rows[piece], values[piece], inflow[piece])]
        restored = Bank(MODELS[name](), learn=20)
        restored.restore(part.snapshot())
        part = restored
    assert found == expected
    assert part.snapshot() == whole.snapshot()


@every
def test_a_snapshot_of_another_model_or_a_damaged_one_is_refused(name):
    bank = bank_of(name)
    other = next(candidate for candidate in MODELS if candidate != name)
    for snapshot in (bank_of(other).snapshot(), b"\xc1", bank.snapshot()[:-3], json.dumps([1]).encode()):
        with pytest.raises(ValueError, match="snapshot"):
            bank.restore(snapshot)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_it_cannot_judge_is_refused_and_changes_nothing(name, bad):
    bank = bank_of(name)
    bank.run(0, KNOWN[name][1](np.random.default_rng(1), 50), INFLOW)
    before = bank.snapshot()
    value = (bad, 1000) if bank.model.columns == 2 else bad
    with pytest.raises(ValueError, match="cannot judge"):
        bank.run(0, value, INFLOW)
    assert bank.snapshot() == before


@pytest.mark.parametrize(
    ("name", "values", "taken"),
    [
        ("beta", [-0.3, -0.1, 0.0, 0.5, 1.0, 1.02, 1.3], [False, True, True, True, True, True, False]),
        ("betting", [-0.3, -0.1, 0.0, 1.0, 1.02, 1.3], [False, True, True, True, True, False]),
        ("bernoulli", [0, 1, 0.5, 2], [True, True, False, False]),
        (
            "beta_binomial",
            [(0, 0), (0, 5), (5, 5), (6, 5), (-1, 5), (1.5, 5)],
            [False, True, True, False, False, False],
        ),
    ],
)
def test_what_each_model_takes(name, values, taken):
    assert MODELS[name]().accepts(shaped(name, values)).tolist() == taken


@every
def test_a_constant_stream_at_its_baseline_is_quiet_and_can_be_learned(name):
    baseline = KNOWN[name][0]
    value = {"bernoulli": 0.0, "beta_binomial": (50, 1000)}.get(name, baseline.location)
    values = np.array([value] * 3000)
    assert bank_of(name).run(0, values, INFLOW) == []
    bank = Bank(MODELS[name](), learn=100)
    assert bank.run(bank.add(), values, INFLOW) == []
    assert bank.baseline(0) is not None


@pytest.mark.parametrize("name", ["beta", "betting", "gaussian", "variance"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_at_an_end_is_learned_and_quiet_and_leaves_all_figures_finite(name, value):
    bank = Bank(MODELS[name](), learn=50)
    row = bank.add()
    assert bank.run(row, np.full(5000, value), INFLOW) == []
    assert np.isfinite(bank._mixture.state[row]).all()
    assert bank.baseline(row) is not None


@pytest.mark.parametrize("value", [0.3, 0.94, 0.999, 0.9999])
def test_a_constant_fidelity_is_quiet_wherever_it_is(value):
    bank = Bank(MODELS["beta"](), learn=50)
    assert bank.run(bank.add(), np.full(5000, value), INFLOW) == []


@pytest.mark.parametrize("name", ["gaussian", "beta", "beta_binomial", "bernoulli"])
def test_the_promise_holds_for_streams_that_are_copies_of_each_other(name):
    """Expected false alarms are at most the inflow, however streams depend on each other: here they are one stream."""
    _, before, _, _ = KNOWN[name]
    rng = np.random.default_rng(11)
    copies, steps, alarms = 50, 4000, []
    for _ in range(20 if os.environ.get("PROVE") == "full" else 6):
        bank = bank_of(name, copies)
        rows, inflow = np.arange(copies), np.full(copies, 1 / 1000)
        found = 0
        for value in shaped(name, before(rng, steps)):
            changes = bank.update(rows, np.tile(value, (copies, 1)), inflow)
            found += sum(change.kind == "alarm" for change in changes)
            for change in changes:
                bank.rearm(change.row)
        alarms.append(found)
    promised = copies * steps / 1000
    assert np.mean(alarms) <= promised


@every
def test_a_stream_costs_what_was_said(name):
    bank = bank_of(name, 1000)
    assert len(bank.snapshot()) / 1000 <= 256


# -- learned baselines -------------------------------------------------------------------------------------------------


@every
def test_a_learned_baseline_grows_until_it_is_large_or_the_stream_alarms(name):
    _, before, after, _ = KNOWN[name]
    rng = np.random.default_rng(6)
    bank = Bank(MODELS[name](), learn=50, grow=700)
    grown, alarmed = bank.add(), bank.add()
    seen = []
    for _ in range(90):
        bank.run(grown, before(rng, 10), 1e-9)
        seen.append(baseline.observations if (baseline := bank.baseline(grown)) else 0)
    assert sorted(set(seen)) == [0, 50, 100, 200, 400, 700]
    assert seen.index(400) == 39
    bank.run(alarmed, before(rng, 300), 1e-9)
    assert bank.run(alarmed, LARGER.get(name, after)(rng, 600), 1e-3)
    kept = bank.baseline(alarmed).observations
    bank.rearm(alarmed)
    bank.run(alarmed, before(rng, 1000), 1e-12)
    assert bank.baseline(alarmed).observations == kept < 700


def moments_of(values):
    x = values[:, 0] if values.shape[1] == 1 else values[:, 0] / values[:, 1]
    return x.mean(), x.std()


@every
def test_a_grown_baseline_is_that_of_all_observations(name):
    """The sums are kept about the first value; here that of 400 observations in pieces beside numpy's."""
    rng = np.random.default_rng(8)
    values = shaped(name, KNOWN[name][1](rng, 400))
    bank = Bank(MODELS[name](), learn=100, grow=400)
    row = bank.add()
    for piece in np.array_split(values, 37):
        bank.run(row, piece, 0.0)
    mean, deviation = moments_of(values)
    baseline = bank.baseline(row)
    assert baseline.observations == 400
    assert baseline.location == pytest.approx(mean, rel=0.05)
    if name in {"gaussian", "beta", "betting", "variance"}:
        assert baseline.location == pytest.approx(mean, rel=1e-9)
        assert baseline.spread == pytest.approx(deviation * (400 / 399) ** 0.5, rel=1e-9)


LEARNABLE = {
    "gaussian": normal(0.95, 0.01),
    "beta": beta(*BETA),
    "bernoulli": yes(0.02),
    "beta_binomial": jobs(0.01, 0.3),
    "betting": beta(*BETA),
    "variance": normal(0.95, 0.01),
}


@every
@pytest.mark.parametrize(("inflow", "doubt"), [(1e-4, 0.1), (2e-6, 2e-3)])
@pytest.mark.parametrize("grow", [0, 1600])
def test_the_promise_holds_with_a_baseline_that_was_learned(name, inflow, doubt, grow):
    """300 streams that learned from 200 each: false alarms within the inflow, at many a week and at few."""
    streams, turns = 300, 200
    rng = np.random.default_rng(12)
    bank = Bank(MODELS[name](), learn=200, grow=grow, doubt=doubt)
    rows = np.tile([bank.add() for _ in range(streams)], 20)
    alarms = sum(
        change.kind == "alarm"
        for _ in range(turns)
        for change in bank.update(rows, shaped(name, LEARNABLE[name](rng, len(rows))), np.full(len(rows), inflow))
    )
    assert alarms <= turns * len(rows) * inflow


NEAR_AN_END = {
    "one wrong shot in 2,000": lambda rng, n: 1 - rng.binomial(1000, 5e-4, n) / 1000,
    "one wrong shot in 100,000": lambda rng, n: 1 - rng.binomial(1000, 1e-5, n) / 1000,
    "few shots": lambda rng, n: 1 - rng.binomial(100, 2e-3, n) / 100,
    "unbiased estimates about 1": lambda rng, n: rng.normal(1, 0.01, n),
    "unbiased estimates below 1": lambda rng, n: rng.normal(0.995, 0.01, n),
    "nine in ten perfect": lambda rng, n: np.where(rng.random(n) < 0.9, 1.0, 0.995),
    "J-shaped": beta(222, 0.22),
    "about 0": lambda rng, n: rng.normal(0, 0.01, n),
}


@pytest.mark.parametrize("law", NEAR_AN_END)
def test_a_device_near_perfection_rings_no_more_than_promised_and_its_fall_is_seen(law):
    """Most values of such a device are the same, and no Beta law fits: the null law is taken further from the end."""
    streams, inflow = 100, 1e-5
    rng = np.random.default_rng(13)
    bank = Bank(MODELS["beta"](), learn=200, grow=1600)
    rows = np.tile([bank.add() for _ in range(streams)], 20)
    alarms = 0
    for _ in range(200):
        values = NEAR_AN_END[law](rng, len(rows)).reshape(-1, 1)
        alarms += len(bank.update(rows, values, np.full(len(rows), inflow)))
    assert alarms <= 200 * len(rows) * inflow
    if law != "about 0":
        fallen = NEAR_AN_END[law](rng, len(rows)).reshape(-1, 1) - 0.05
        changes = bank.update(rows, fallen, np.full(len(rows), inflow))
        assert len({change.row for change in changes}) == streams


@pytest.mark.parametrize("mean", [0.02, 0.3, 0.9, 0.95, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("spread", [1e-4, 1e-3, 0.003, 0.01, 0.1])
def test_the_mean_ratio_of_beta_is_1_or_less_wherever_the_baseline_is(mean, spread):
    model = MODELS["beta"]("both", main=0.5)
    try:
        model.check(mean, spread)
    except ValueError:
        with pytest.raises(ValueError, match="beta: a baseline"):
            Bank(model).add(Baseline(mean, spread, "catalog"))
        return
    precision = mean * (1 - mean) / spread**2 - 1
    quantiles = stats.beta(mean * precision, (1 - mean) * precision).ppf((np.arange(40_000) + 0.5) / 40_000)
    coefficients = model.coefficients(Known.given(mean, spread), 1e-3)
    ratios = model.ratios(quantiles[:, None], np.broadcast_to(coefficients, (40_000, *coefficients.shape[1:])))
    assert (ratios.mean(axis=0) <= 1 + 1e-4).all()


@pytest.mark.parametrize(
    ("name", "location", "spread"),
    [
        ("gaussian", 0.0, 0.0),
        ("gaussian", np.inf, 1.0),
        ("variance", 0.0, -1.0),
        ("beta", 1.0, 0.01),
        ("beta", 0.5, 0.5),
        ("beta", np.nan, 0.01),
        ("bernoulli", 0.0, 0.0),
        ("beta_binomial", 0.5, 1.0),
        ("beta_binomial", 1.2, 0.1),
        ("betting", 1.0, 0.0),
    ],
)
def test_a_baseline_that_cannot_be_is_refused_and_changes_nothing(name, location, spread):
    bank = bank_of(name)
    before = bank.snapshot()
    with pytest.raises(ValueError, match=f"{name}: a baseline"):
        bank.rebaseline(0, Baseline(location, spread, "catalog"))
    assert bank.snapshot() == before


@pytest.mark.parametrize("inflow", [-1e-4, np.nan, np.inf])
def test_an_inflow_that_is_none_is_refused(inflow):
    with pytest.raises(ValueError, match="inflow"):
        bank_of("gaussian").run(0, [0.95], inflow)


@pytest.mark.parametrize(("shots", "variation"), [(100, 0.05), (1000, 0.18), (4000, 0.3)])
def test_the_interval_of_a_changed_rate_covers_it_whatever_the_number_of_shots(shots, variation):
    streams = 300
    bank = Bank(MODELS["beta_binomial"]())
    rows = np.array([bank.add(Baseline(0.05, variation, "catalog")) for _ in range(streams)])
    rng, covered, seen = np.random.default_rng(14), 0, 0
    for _ in range(60):
        for change in bank.update(rows, jobs(0.1, variation, shots)(rng, streams), np.full(streams, 1e-4)):
            if change.kind == "alarm":
                seen += 1
                covered += change.low < 0.05 < change.high
    assert seen > 250
    assert covered / seen > 0.85
