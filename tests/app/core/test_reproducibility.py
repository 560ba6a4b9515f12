"""Replays (M2, F6): who is chosen, what is compared, and how sure that is."""

import msgspec
import numpy as np
import pytest
from records import Log, lifecycle, result

from app.conventions import JOBS, RESULTS, SAMPLES
from app.core.bitstrings import packed
from app.core.outcomes import Pack
from app.core.reproducibility import Counted, Replays, Waiting, compare
from app.core.runs import RunStage
from app.core.streams import StreamStage

SHARES = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


def rules(**fields):
    known = {"shares": {"high": 0.5}, "seed": "s", "alpha": 0.01, "distance": 0.25, "overdispersion": 0.0, "kept": 100}
    return Replays(**{**known, **fields})


def counts(values):
    return packed({f"{place:03b}": int(value) for place, value in enumerate(values) if value})


def sample(rng, shots, shares=SHARES, precision=None):
    drawn = shares if precision is None else rng.dirichlet(shares * precision)
    return counts(rng.multinomial(shots, drawn))


@pytest.mark.parametrize(("shots", "others"), [(1_000, 1_000), (4_000, 500), (200, 200)])
def test_good_replays_are_called_not_matched_as_often_as_was_said(shots, others):
    rng = np.random.default_rng(1)
    found = [
        compare(sample(rng, shots), sample(rng, others), rules(alpha=0.05), deterministic=False) for _ in range(2_000)
    ]
    assert np.mean([each.answer == "not_matched" for each in found]) == pytest.approx(0.05, abs=0.015)
    distances = np.array([[each.distance, each.floor] for each in found])
    assert distances[:, 0].mean() == pytest.approx(distances[:, 1].mean(), rel=0.1), "the floor is what chance makes"


def test_a_device_that_changes_from_job_to_job_is_allowed_for():
    """Dirichlet-multinomial with a correlation of shots of 0.004: a precision of 249."""
    rng = np.random.default_rng(2)
    pairs = [(sample(rng, 1_000, precision=249), sample(rng, 1_000, precision=249)) for _ in range(1_000)]
    naive = np.mean([compare(*pair, rules(), deterministic=False).answer == "not_matched" for pair in pairs])
    allowed = np.mean(
        [compare(*pair, rules(overdispersion=0.004), deterministic=False).answer == "not_matched" for pair in pairs]
    )
    assert naive > 0.3
    assert allowed < 0.03


def test_the_distance_that_matters_is_found_as_often_as_the_power_says():
    rng = np.random.default_rng(3)
    moved = SHARES.copy()
    # The hardest difference at a distance of 0.1: in proportion to the pooled shares, up here and down there.
    moved[[0, 4]] -= [0.0889, 0.0111]
    moved[[1, 2, 3]] += np.array([0.3, 0.15, 0.1]) / 0.55 * 0.1
    found = [
        compare(sample(rng, 300), sample(rng, 300, moved), rules(distance=0.1), deterministic=False)
        for _ in range(1_000)
    ]
    hits = np.mean([each.answer == "not_matched" for each in found])
    assert hits >= np.mean([each.power for each in found]) - 0.05
    assert hits < 0.9, "it is not obvious"


def test_too_few_shots_are_underpowered_and_not_matched_by_default():
    rng = np.random.default_rng(4)
    few = compare(sample(rng, 20), sample(rng, 20), rules(), deterministic=False)
    assert (few.answer, few.power < 0.8) == ("underpowered", True)
    many = compare(sample(rng, 2_000), sample(rng, 2_000), rules(), deterministic=False)
    assert (many.answer, many.power > 0.8) == ("matched", True)


def test_numbers_worked_out_by_hand():
    """x = (60, 40), y = (40, 60): X^2 = 2 (0.2^2 / 0.5) / (2 / 100) = 8, one degree of freedom, p = 0.00468."""
    found = compare(counts([60, 40]), counts([40, 60]), rules(), deterministic=False)
    assert found.distance == pytest.approx(0.2)
    assert found.p_value == pytest.approx(0.004678, abs=1e-5)
    assert found.answer == "not_matched"


def test_a_task_with_one_answer_must_give_it_again():
    same = compare(counts([0, 0, 10]), counts([0, 0, 4_000]), rules(), deterministic=True)
    other = compare(counts([0, 0, 10]), counts([0, 1, 9]), rules(), deterministic=True)
    assert (same.answer, other.answer) == ("matched", "not_matched")


def test_an_empty_sample_says_nothing():
    assert compare(counts([]), counts([5]), rules(), deterministic=False).answer == "underpowered"


def test_a_share_is_chosen_by_the_seed_and_a_smaller_share_is_part_of_a_larger():
    names = [f"run-{number}" for number in range(20_000)]
    small = {name for name in names if rules().chosen(name, 0.05)}
    large = {name for name in names if rules().chosen(name, 0.2)}
    assert small < large
    assert len(small) / len(names) == pytest.approx(0.05, abs=0.005)
    assert small != {name for name in names if rules(seed="another").chosen(name, 0.05)}


def test_halves_meet_in_any_order_and_the_oldest_gives_way():
    waiting = Waiting()
    original = Counted(1, 0.0, "run-1", "w", None, b"o")
    replay = Counted(2, 0.0, "again-1", "w", "run-1", b"r")
    assert waiting.take(original, 10) is None
    assert [each.run_id for each in waiting.take(replay, 10)] == ["run-1", "again-1"]
    assert waiting.take(replay, 10) is None
    assert [each.run_id for each in waiting.take(original, 10)] == ["run-1", "again-1"]
    for number in range(20):
        waiting.take(Counted(number, 0.0, f"run-{number}", "w", None, b"o"), 10)
    assert list(waiting.originals) == [f"run-{number}" for number in range(10, 20)]


class Bench:
    """A stream stage that is told of counts."""

    def __init__(self, catalog):
        alerting = msgspec.structs.replace(catalog.alerting, replays=rules())
        self.catalog = msgspec.structs.replace(catalog, alerting=alerting)
        self.stage, self.log, self.offset, self.alerts = StreamStage(self.catalog, 4), Log(), 0, []
        self.rng = np.random.default_rng(6)

    def replay(self, number, shares=SHARES):
        """An original and its replay."""
        for replay_of, name, drawn in ((None, f"run-{number}", SHARES), (f"run-{number}", f"again-{number}", shares)):
            outcomes = sample(self.rng, 1_000, drawn)
            one = Counted(self.offset, Log.START, name, "route-planning", replay_of, outcomes)
            self.offset += 1
            pack = Pack(RESULTS, 0, self.offset - 1, self.offset, counted=[one])
            self.alerts += self.stage.apply(self.log.batch(SAMPLES, [msgspec.msgpack.encode(pack)])).alerts


def test_replays_that_match_are_counted_and_those_that_do_not_are_one_alert(catalog):
    bench = Bench(catalog)
    for number in range(50):
        bench.replay(number)
    assert bench.stage.counters["valid", "M2", "route-planning"] == 50
    assert bench.stage.counters["bad", "M2", "route-planning"] <= 3
    bench.alerts.clear()
    for number in range(50, 60):
        bench.replay(number, SHARES[::-1])
    restored = Bench(catalog)
    restored.stage.restore(bench.stage.snapshot())
    assert restored.stage.counters["bad", "M2", "route-planning"] >= 10
    (alert,) = bench.alerts
    assert (alert.name, alert.severity, alert.labels) == ("ReplayDivergence", "ticket", {"workload": "route-planning"})
    assert set(alert.run_ids) >= {"run-50", "again-50"}


def test_a_run_that_is_chosen_is_asked_to_be_made_again_and_its_counts_are_kept(catalog, policy):
    alerting = msgspec.structs.replace(catalog.alerting, replays=rules(shares={"medium": 1.0}))
    stage, log = RunStage(msgspec.structs.replace(catalog, alerting=alerting), policy, 4), Log()
    for topic in RunStage.topics:
        stage.apply(log.heartbeat(topic, Log.START + 1))
    stage.apply(log.batch(JOBS, lifecycle("run-1")))
    packs = list(stage.apply(log.batch(RESULTS, [result("run-1"), result("run-2", replay_of="run-1")])).packs.values())
    observed = [each.run_id for pack in packs for found in pack.observations.values() for each in found]
    assert observed == ["run-1"], "a replay says nothing of what is in production"
    counted = [each for pack in packs for each in pack.counted]
    assert [(each.run_id, each.replay_of) for each in counted] == [("run-1", None), ("run-2", "run-1")]
    requests = []
    for second in range(2, 40):
        for topic in RunStage.topics:
            requests += stage.apply(log.heartbeat(topic, Log.START + second)).replay_requests
    (request,) = requests
    assert (request.run_id, request.workload, request.tier, request.seed) == ("run-1", "route-planning", "medium", 1)
    assert request.chosen_by == "seed s, 1 of tier medium"


def test_rare_outcomes_in_one_cell_are_no_agreement():
    """Each outcome so rare that it says nothing alone: what differs among them is not seen, and that is said."""
    one = packed({f"a{place}": 3 for place in range(32)})
    other = packed({f"b{place}": 3 for place in range(32)})
    assert compare(one, other, rules(), deterministic=False).answer == "underpowered"
    one = packed({"0": 60, **{f"a{place}": 8 for place in range(30)}})
    other = packed({"0": 60, **{f"b{place}": 8 for place in range(30)}})
    assert compare(one, other, rules(), deterministic=False).answer in {"underpowered", "not_matched"}


def test_outcomes_that_were_never_counted_change_nothing():
    found = compare(
        packed({"00": 500, "11": 500, "01": 0}), packed({"00": 1_000, "01": 0}), rules(), deterministic=False
    )
    assert found.answer == "not_matched"
    assert compare(packed({"1": 5}), packed({"1": 5, "0": 0}), rules(), deterministic=True).answer == "matched"


def test_the_same_single_outcome_matches():
    assert compare(packed({"1": 900}), packed({"1": 700}), rules(), deterministic=False).answer == "matched"
