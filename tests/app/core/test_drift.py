"""Drift through the stream stage: what an alarm says, when it is said once, and what the promise costs."""

import json
import random
from datetime import datetime
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import Log
from streams import KEY, Bench, observation

from app.conventions import REBASELINE_HEADER, SAMPLES
from app.core.bitstrings import packed
from app.core.catalog import ANY, Promise, Watch
from app.core.drift import preferred
from app.core.outcomes import Lifted, Observation, Pack
from app.core.results import stream_key
from app.core.streams import StreamStage
from detectors import Baseline

FALL = np.random.default_rng(2).beta(440, 60, 400)


def before(count, seed=1):
    return np.random.default_rng(seed).beta(940, 60, count)


def samples(values, first=0, **more):
    found = [observation(first + index, float(value), **more) for index, value in enumerate(values)]
    return Pack("results", 0, first, first + len(found), {KEY: found})


@pytest.fixture
def bench(catalog):
    return Bench(catalog)


def test_an_alarm_says_what_changed_when_and_how_sure_that_is(bench):
    bench.apply(samples(np.concatenate([before(500), np.random.default_rng(8).beta(920, 80, 100)])))
    (alert,) = bench.alerts
    assert (alert.name, alert.status, alert.labels["signal"]) == ("FidelityDrift", "firing", "fidelity")
    assert alert.notes["direction"] == "down"
    assert alert.notes["cause"] == "drift"
    assert alert.notes["baseline"] == "learned"
    assert "at most 2 false drift alerts a week" in alert.notes["guarantee"]
    assert "learned (this one from 400 observations" in alert.notes["guarantee"]
    figures = alert.figures
    assert figures["baseline_observations"] == 400
    assert figures["size_low"] < figures["size"] < figures["size_high"] < 0
    assert figures["size_low"] < 0.92 - 0.94 < figures["size_high"]
    assert figures["evidence"] > 1
    assert 0 < figures["budget_spent"] < 1
    assert 1 <= figures["since_observations"] < 30
    assert len(alert.run_ids) == 8
    assert alert.notes["changed_at"] < alert.at


def test_one_change_is_one_alert_and_its_end_is_said(bench):
    bench.apply(samples(np.concatenate([before(500), FALL, before(300, 5)])))
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved"]
    assert bench.alerts[0].fingerprint == bench.alerts[1].fingerprint
    assert bench.alerts[0].alert_id != bench.alerts[1].alert_id
    assert bench.stage.counters["drift_resolved", "fidelity"] == 1


def test_a_change_that_stays_is_said_again_after_the_cool_down(catalog):
    promise = msgspec.structs.replace(catalog.promise, cool_down_seconds=1000)
    bench = Bench(msgspec.structs.replace(catalog, promise=promise))
    bench.apply(samples(np.concatenate([before(500), FALL[:100]]), every=1))
    bench.beat(650)
    bench.apply(samples(FALL[100:200], 600, every=1))
    assert len(bench.alerts) == 1
    bench.beat(400)
    bench.apply(samples(FALL[200:300], 700, every=1))
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved", "firing"]
    assert bench.alerts[1].notes["ended"].startswith("the cool-down has ended")
    assert len({alert.fingerprint for alert in bench.alerts}) == 1
    assert len({alert.alert_id for alert in bench.alerts}) == 3


def test_a_collapse_pages(bench):
    bench.apply(samples(np.concatenate([before(500), np.full(50, 0.7), before(100, 3)])))
    said = [(alert.name, alert.severity, alert.status) for alert in bench.alerts]
    assert said == [("FidelityCollapse", "page", "firing"), ("FidelityCollapse", "page", "resolved")]
    assert bench.alerts[0].fingerprint == bench.alerts[1].fingerprint


def test_a_collapse_orders_the_classical_path_until_it_ends(bench):
    bench.apply(samples(np.concatenate([before(500), np.full(50, 0.7)])))
    (order,) = bench.directives
    assert (order.directive, order.target) == ("fallback_classical", "route-planning/ibm_fez")
    assert order.reason == bench.alerts[0].summary
    assert order.issued_at < order.expires_at
    bench.apply(samples(before(100, 3), 550))
    assert bench.directives[1:] == [Lifted("fallback_classical", "route-planning/ibm_fez")]


def test_the_classical_path_is_ordered_until_every_collapse_of_the_stream_has_ended(catalog):
    watches = {"fidelity": (*catalog.watches["fidelity"], Watch("gaussian", {}, learn=100))}
    bench = Bench(msgspec.structs.replace(catalog, watches=watches))
    bench.apply(samples(np.concatenate([before(500), np.full(50, 0.7)])))
    firing = [alert for alert in bench.alerts if alert.name == "FidelityCollapse"]
    assert len(firing) == 2
    first, *_ = bench.stage.drift.watches
    (lane,) = first.firing
    bench.stage._end(first, lane, Log.START, "by itself")
    assert not [each for each in bench.directives if isinstance(each, Lifted)]


def test_a_drift_that_is_no_collapse_orders_nothing(bench):
    bench.apply(samples(np.concatenate([before(500), before(100, 3) - 0.04])))
    assert [alert.name for alert in bench.alerts] == ["FidelityDrift"]
    assert not bench.directives


def test_a_change_that_came_with_a_recalibration_is_told_from_drift(bench):
    bench.apply(samples(before(500), calibration="cal-1"))
    bench.apply(samples(FALL[:60], 500, calibration="cal-2"))
    (alert,) = bench.alerts
    assert alert.notes["cause"] == "recalibration"
    assert (alert.notes["calibration_before"], alert.notes["calibration"]) == ("cal-1", "cal-2")


def test_a_drift_long_after_a_recalibration_is_a_drift(bench):
    bench.apply(samples(before(300), calibration="cal-1"))
    bench.apply(samples(before(400, 7), 300, calibration="cal-2"))
    bench.apply(samples(FALL[:60], 700, calibration="cal-2"))
    assert [alert.notes["cause"] for alert in bench.alerts] == ["drift"]


def rebaseline(bench, **more):
    asked = {
        "workload": "route-planning",
        "backend": "ibm_fez",
        "signal": "fidelity",
        "by": "ana",
        "reason": "new chip",
    }
    value = json.dumps({**asked, **more}).encode()
    bench._take(bench.log.batch(SAMPLES, [value], bench.now, ((REBASELINE_HEADER, b"1"),)))


def test_a_new_baseline_is_an_act_that_is_recorded_and_then_holds(bench):
    bench.apply(samples(np.concatenate([before(500), FALL[:100]])))
    rebaseline(bench)
    over, act = bench.alerts[-2:]
    assert (over.status, over.notes["ended"]) == ("resolved", "a new baseline was asked for")
    assert (act.name, act.notes["by"], act.figures["watches"]) == ("BaselineChanged", "ana", 1.0)
    count = len(bench.alerts)
    bench.apply(samples(np.concatenate([FALL, FALL[:100]]), 600))
    assert len(bench.alerts) == count
    rebaseline(bench, workload="no-such", signal="fidelity")
    assert bench.alerts[-1].figures["watches"] == 0.0
    rebaseline(bench, by=None)
    assert len(bench.dead_letters) == 1


def test_a_given_baseline_holds_from_the_first_observation_and_says_its_kind(catalog):
    given = msgspec.structs.replace(catalog, baselines={(KEY, "fidelity", "beta"): Baseline(0.94, 0.0075, "synthetic")})
    bench = Bench(given)
    bench.apply(samples(FALL[:60]))
    (alert,) = bench.alerts
    assert alert.notes["baseline"] == "synthetic"
    assert alert.notes["guarantee"].endswith("if the synthetic baseline is right")


def test_errors_are_watched_as_counts(bench):
    rng = np.random.default_rng(3)
    counts = [*rng.binomial(1000, 0.05, 400).tolist(), *rng.binomial(1000, 0.2, 50).tolist()]
    found = [observation(index, None, errors=errors, shots=1000) for index, errors in enumerate(counts)]
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    (alert,) = bench.alerts
    assert (alert.name, alert.notes["direction"]) == ("ErrorRateDrift", "up")
    assert alert.figures["size"] > 0


@pytest.mark.parametrize("value", [1.3, -0.3])
def test_a_fidelity_that_cannot_be_is_counted_and_judged_by_nothing(bench, value):
    bench.apply(samples([*before(300), value, *before(100, 4)]))
    assert bench.stage.counters["refused", "fidelity"] == 1
    assert bench.stage.streams[KEY].total.n == 400
    bench.apply(canary_pack([value] * 20, before(20), 401))
    assert not bench.stage.streams[KEY].canaries["fidelity"].releases["v2"].comparison.pairs
    assert not bench.alerts


def test_an_estimate_a_little_above_1_is_taken(bench):
    bench.apply(samples(np.full(300, 1.002)))
    assert bench.stage.counters["refused", "fidelity"] == 0


def test_a_stream_that_is_silent_for_a_week_comes_back_with_no_larger_allowance_than_a_day(catalog):
    bench = Bench(catalog)
    bench.apply(samples(before(300)))
    watch = next(watch for watch in bench.stage.drift.watches if watch.signal == "fidelity")
    spent = float(watch.bank._mixture.state[0, -1])
    week = [observation(300 + 7 * 1440, 0.94), observation(301 + 7 * 1440, 0.94)]
    bench.apply(Pack("results", 0, 300, 302 + 7 * 1440, {KEY: week}))
    day = float(watch.bank._mixture.state[0, -1]) - spent
    assert day == pytest.approx((60 + 86_400) * watch._rate)
    assert not bench.alerts


def test_the_promise_is_shared_by_watches_partitions_and_streams(catalog):
    watches = {"fidelity": (Watch("beta", {}, share=3.0),), "queue_seconds": (Watch("gaussian", {}, share=1.0),)}
    promise = Promise(false_alerts_per_week=8, cool_down_seconds=1e9, collapse=0.1)
    stage = StreamStage(msgspec.structs.replace(catalog, watches=watches, promise=promise), 2)
    rates = {watch.signal: watch._rate * 604_800 for watch in stage.drift.watches}
    assert rates == {"fidelity": pytest.approx(3.0), "queue_seconds": pytest.approx(1.0)}


def test_over_a_fleet_false_alerts_stay_within_what_was_promised(catalog):
    """200 streams a job a minute for four simulated weeks, known baselines, nothing changes; 50 a week promised."""
    streams, minutes = 200, 60 * 24 * 28 // 20
    keys = [stream_key(f"w-{number}", "b") for number in range(streams)]
    given = {(key, "fidelity", "beta"): Baseline(0.95, 0.01, "catalog") for key in keys}
    promise = Promise(false_alerts_per_week=50, cool_down_seconds=1.0, collapse=0.1)
    watches = {"fidelity": (Watch("beta", {"direction": "down"}),)}
    stage = StreamStage(msgspec.structs.replace(catalog, watches=watches, promise=promise, baselines=given), 1)
    rng, log, fired = np.random.default_rng(5), Log(), 0
    for minute in range(minutes):
        at = Log.START + 1200.0 * minute
        values = rng.beta(450.3, 23.7, streams)
        found = {key: [observation(minute, float(value), every=1200)] for key, value in zip(keys, values, strict=True)}
        batch = log.batch(SAMPLES, [msgspec.msgpack.encode(Pack("results", 0, minute, minute + 1, found))], at)
        fired += sum(alert.status == "firing" for alert in stage.apply(batch).alerts)
        stage.apply(log.heartbeat(SAMPLES, at))
    assert 0 < fired <= 4 * 50


def pair(offset):
    return [
        observation(offset, float(FALL[offset % 400])),
        msgspec.structs.replace(observation(offset + 1, 0.5), canary="v2"),
    ]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_cut_and_killed_anywhere_it_says_the_same_to_the_bit(catalog, seed):
    rng = random.Random(seed)
    values = np.concatenate([before(260, seed), FALL[:60], before(80, seed + 1)])
    # A fall and a bad canary at once: the order in which the two are said must not depend on the cut.
    late = Pack("results", 0, 400, 520, {KEY: [each for one in range(60) for each in pair(400 + 2 * one)]})
    log = Log()
    whole = Bench(catalog)
    records, at = [], 0
    while at < len(values):
        size = rng.randint(1, 30)
        counts = packed({"00": 940 - at, "01": 30 + at, "11": 30})
        found = samples(values[at : at + size], at, calibration=f"cal-{at // 150}", outcomes=counts)
        records += log.batch(SAMPLES, [msgspec.msgpack.encode(found)], Log.START + 60 * at).records
        if rng.random() < 0.3 or at > 200:
            records += log.heartbeat(SAMPLES, Log.START + 60 * at).records
        at += size
    records += log.batch(SAMPLES, [msgspec.msgpack.encode(late)], Log.START + 60 * at).records
    everything = log.batch(SAMPLES, [])._replace(records=records)
    whole._take(everything)
    part, first = Bench(catalog), 0
    while first < len(records):
        last = min(len(records), first + rng.randint(1, 6))
        part._take(everything._replace(records=records[first:last]))
        if rng.random() < 0.5:  # killed: what came after the checkpoint is read again by another process
            restored = StreamStage(catalog, 4)
            restored.restore(part.stage.snapshot())
            part.stage = restored
        first = last
    assert part.alerts == whole.alerts
    assert {alert.name for alert in whole.alerts} >= {"FidelityDrift", "CanaryVerdict"}
    assert part.stage.snapshot() == whole.stage.snapshot()


def canary_pack(stable, canary, first=0, release="v2", **more):
    found = []
    for index, (one, other) in enumerate(zip(stable, canary, strict=True)):
        found.append(observation(first + 2 * index, float(one)))
        of_canary = observation(first + 2 * index + 1, float(other), **more)
        found.append(msgspec.structs.replace(of_canary, canary=release))
    return Pack("results", 0, first, first + len(found), {KEY: found})


def test_a_worse_canary_is_said_once_and_is_to_be_rolled_back(bench):
    outcomes = bench.apply(canary_pack(before(60), before(60, 2) - 0.03))
    (alert,) = bench.alerts
    assert (alert.name, alert.severity, alert.labels["verdict"]) == ("CanaryVerdict", "page", "worse")
    assert alert.labels["release"] == "v2"
    assert alert.figures["pairs"] < 40
    (directive,) = outcomes.directives
    assert (directive.directive, directive.target) == ("rollback_canary", "route-planning/ibm_fez")
    assert directive.expires_at > directive.issued_at
    assert bench.stage.counters["canary", "worse"] == 1


def test_a_canary_is_no_drift_of_what_is_in_production(bench):
    bench.apply(samples(before(300)))
    bench.apply(canary_pack(before(80, 3), np.full(80, 0.5), 300))
    assert {alert.name for alert in bench.alerts} == {"CanaryVerdict"}
    assert bench.stage.streams[KEY].total.n == 380
    assert bench.stage.counters["valid", "M10", "fidelity"] == 380
    assert bench.stage.counters["observed", "fidelity"] == 460


def test_an_equal_canary_is_said_to_be_and_a_new_release_begins_anew(bench):
    bench.apply(canary_pack(before(1500), before(1500, 2)))
    assert [alert.labels["verdict"] for alert in bench.alerts] == ["equal"]
    bench.apply(canary_pack(before(60), before(60, 2) + 0.03, 3000, "v3"))
    assert [(alert.labels["release"], alert.labels["verdict"]) for alert in bench.alerts[1:]] == [("v3", "better")]


def test_with_few_runs_nothing_is_said(bench):
    bench.apply(canary_pack(before(4), before(4, 2) - 0.03))
    assert not bench.alerts


def test_waiting_times_are_watched_on_their_logarithm(catalog):
    watches = {"queue_seconds": (Watch("gaussian", {"direction": "up"}, learn=200, transform="log"),)}
    bench = Bench(msgspec.structs.replace(catalog, watches=watches))
    waits = np.exp(np.random.default_rng(6).normal([1.0] * 400 + [2.0] * 60, 0.3))
    found = [msgspec.structs.replace(observation(n, None), queue_seconds=float(w)) for n, w in enumerate([*waits, 0.0])]
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    (alert,) = bench.alerts
    assert (alert.name, alert.severity, alert.notes["direction"]) == ("QueueDrift", "ticket", "up")
    assert bench.stage.counters["refused", "queue_seconds"] == 1  # a wait of 0 has no logarithm


def test_a_queue_many_times_as_long_pages_and_orders_the_classical_path(catalog):
    watches = {"queue_seconds": (Watch("gaussian", {"direction": "up"}, learn=200, transform="log"),)}
    bench = Bench(msgspec.structs.replace(catalog, watches=watches))
    waits = np.exp(np.random.default_rng(7).normal([1.0] * 400 + [3.0] * 60 + [1.0] * 200, 0.3))
    found = [msgspec.structs.replace(observation(n, None), queue_seconds=float(w)) for n, w in enumerate(waits)]
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    assert [(alert.name, alert.severity, alert.status) for alert in bench.alerts] == [
        ("QueuePileup", "page", "firing"),
        ("QueuePileup", "page", "resolved"),
    ]
    assert bench.alerts[0].figures["factor"] > catalog.promise.pileup
    order, lifted = bench.directives
    assert (order.directive, order.target) == ("fallback_classical", "route-planning/ibm_fez")
    assert lifted == Lifted("fallback_classical", "route-planning/ibm_fez")


def test_a_canary_is_compared_with_jobs_of_as_many_shots_only(bench):
    # With 4,000 shots a result near 1 varies less; that is no merit and no fault of the release.
    bench.apply(canary_pack(before(300), before(300, 2) - 0.03, shots=4000))
    assert not bench.alerts
    assert bench.stage.streams[KEY].canaries["fidelity"].releases["v2"].comparison.pairs == 0


def test_a_canary_is_compared_with_jobs_of_the_same_hour_only(bench):
    morning = [msgspec.structs.replace(observation(600, 0.5), canary="v2")]
    bench.apply(
        canary_pack(before(2), before(2)), Pack("results", 0, 600, 601, {KEY: morning}), samples(before(1), 700)
    )
    assert bench.stage.streams[KEY].canaries["fidelity"].releases["v2"].comparison.pairs == 1


def test_two_canaries_at_once_are_each_compared_with_the_stable_release(bench):
    found, good, bad = [], before(100, 2), before(100, 3) - 0.03
    for index, stable in enumerate(before(100).tolist()):
        found.append(observation(3 * index, stable))
        for more, (release, values) in enumerate((("v2", good), ("v3", bad)), 1):
            one = observation(3 * index + more, float(values[index]))
            found.append(msgspec.structs.replace(one, canary=release))
    bench.apply(Pack("results", 0, 0, 300, {KEY: found}))
    assert [(alert.labels["release"], alert.labels["verdict"]) for alert in bench.alerts] == [("v3", "worse")]
    releases = bench.stage.streams[KEY].canaries["fidelity"].releases
    assert [releases[name].comparison.pairs for name in ("v2", "v3")] == [99, 99]


def test_no_number_of_releases_grows_a_stream(bench):
    found = [msgspec.structs.replace(observation(n, 0.9, shots=n + 1), canary=f"v{n}") for n in range(50)]
    bench.apply(Pack("results", 0, 0, 50, {KEY: found}))
    assert len(bench.stage.streams[KEY].canaries["fidelity"].releases) == 8


def test_a_clock_far_ahead_does_not_make_a_stream_deaf(bench):
    bench.beat(1)
    bench.apply(samples(before(300), every=0.001))
    ahead = msgspec.structs.replace(observation(300, 0.94), at=Log.START + 1e9)
    bench.apply(Pack("results", 0, 300, 301, {KEY: [ahead]}))
    for offset, value in enumerate(FALL[:60].tolist(), 301):
        bench.now += 60
        bench.beat(1)
        one = msgspec.structs.replace(observation(offset, value), at=bench.now)
        bench.apply(Pack("results", 0, offset, offset + 1, {KEY: [one]}))
    assert [alert.name for alert in bench.alerts] == ["FidelityDrift"]


def test_a_recalibration_is_counted_in_results_that_have_the_signal(bench):
    """Three in four results have no fidelity; the change came with the calibration all the same."""
    values = np.concatenate([before(300), FALL[:30]])
    found = []
    for index, value in enumerate(values.tolist()):
        calibration = "cal-1" if index < 300 else "cal-2"
        blank = [observation(4 * index + more, None, calibration=calibration) for more in (0, 1, 2)]
        found += [*blank, observation(4 * index + 3, value, calibration=calibration)]
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    (alert,) = bench.alerts
    assert alert.notes["cause"] == "recalibration"
    began = Log.START + 60 * 1200
    assert abs(datetime.fromisoformat(alert.notes["changed_at"]).timestamp() - began) < 60 * 4 * 3


def test_an_alert_names_the_outcomes_that_moved(bench):
    rng = np.random.default_rng(9)
    good, bad = [0.48, 0.02, 0.02, 0.48], [0.48, 0.02, 0.07, 0.43]  # a qubit that falls back to 0
    found = []
    for index, value in enumerate([*before(300), *FALL[:40]]):
        drawn = rng.multinomial(1000, good if index < 300 else bad)
        counts = packed(dict(zip(("00", "01", "10", "11"), drawn.tolist(), strict=True)))
        found.append(observation(index, float(value), outcomes=counts))
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    (alert,) = bench.alerts
    first, second = alert.notes["moved"].split(", ")[:2]
    assert first.startswith("10 0.0")
    assert second.startswith("11 0.4")


def test_a_wide_result_is_not_kept_outcome_by_outcome():
    assert packed({f"{number:010b}": 1 for number in range(33)}) is None


def given_at(catalog, location):
    return msgspec.structs.replace(
        catalog, baselines={(KEY, "fidelity", "beta"): Baseline(location, 0.0075, "catalog")}
    )


def held(stage):
    watch = next(watch for watch in stage.drift.watches if watch.signal == "fidelity")
    return watch.bank.baseline(0)


def test_a_baseline_that_is_changed_in_the_file_holds_after_a_restart(catalog):
    bench = Bench(given_at(catalog, 0.94))
    bench.apply(samples(before(10)))
    assert held(bench.stage).location == 0.94
    for now, expected in ((given_at(catalog, 0.9), 0.9), (given_at(catalog, 0.94), 0.94), (catalog, None)):
        restored = StreamStage(now, 4)
        restored.restore(bench.stage.snapshot())
        assert held(restored) == (expected and Baseline(expected, 0.0075, "catalog"))


def test_who_asks_for_a_new_baseline_where_one_is_given_gets_that(catalog):
    bench = Bench(given_at(catalog, 0.94))
    bench.apply(samples(FALL[:40]))
    rebaseline(bench)
    assert held(bench.stage).kind == "catalog"
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved", "firing"]
    assert bench.alerts[-1].name == "BaselineChanged"


def test_a_detector_of_river_says_one_change_once_and_ends_with_the_cool_down(catalog):
    watches = {"fidelity": (Watch("kswin", {"seed": 3}),)}
    promise = msgspec.structs.replace(catalog.promise, cool_down_seconds=1000)
    bench = Bench(msgspec.structs.replace(catalog, watches=watches, promise=promise))
    bench.apply(samples(np.concatenate([before(300), FALL[:60], before(200, 3) - 0.2])))
    assert [alert.status for alert in bench.alerts] == ["firing"]
    assert "promises nothing" in bench.alerts[0].notes["guarantee"]
    bench.beat(1001)
    assert [alert.status for alert in bench.alerts] == ["firing", "resolved"]


def decided(offset, outcome, *, canary=None):
    return Observation(
        offset, Log.START + 60 * offset, f"run-{offset}", None, canary=canary, outcome=outcome,
        decision=float(outcome == "approve"),
    )  # fmt: skip


ANYWHERE = stream_key("credit-scoring", ANY)


def test_a_selection_rate_that_falls_is_seen_in_either_direction_of_the_model(bench):
    rng = np.random.default_rng(15)
    outcomes = ["approve" if draw < 0.7 else "decline" for draw in rng.random(1000)]
    outcomes += ["approve" if draw < 0.4 else "decline" for draw in rng.random(200)]
    found = [decided(number, outcome) for number, outcome in enumerate(outcomes)]
    bench.apply(Pack("jobs", 0, 0, len(found), {ANYWHERE: found}))
    (alert,) = bench.alerts
    assert (alert.name, alert.labels["backend"], alert.notes["direction"]) == ("DecisionDrift", "any", "down")
    assert alert.figures["size_low"] < 0.4 - 0.7 < alert.figures["size_high"]


def test_a_canary_that_decides_otherwise_is_a_matter_for_a_person(bench):
    found = []
    for number in range(150):
        found.append(decided(2 * number, "approve" if number % 10 else "decline"))
        found.append(decided(2 * number + 1, "approve" if number % 2 else "decline", canary="v2"))
    outcomes = bench.apply(Pack("jobs", 0, 0, 300, {ANYWHERE: found}))
    (alert,) = bench.alerts
    assert (alert.labels["verdict"], alert.labels["signal"], alert.severity) == ("differ", "decision", "ticket")
    assert not outcomes.directives
    assert bench.stage.counters["canary", "differ"] == 1


def distributions(count, shares, first=0, seed=9):
    rng = np.random.default_rng(seed)
    for index in range(first, first + count):
        drawn = rng.multinomial(1000, rng.dirichlet(2000 * np.array(shares)))
        counts = dict(zip(("00", "01", "10", "11"), drawn.tolist(), strict=True))
        yield observation(index, None, outcomes=packed(counts))


GOOD = (0.7, 0.02, 0.02, 0.26)
READ_WRONGLY = (0.632, 0.088, 0.044, 0.236)  # one in ten of qubit 0, the rightmost


@pytest.fixture
def whole(catalog):
    watches = {"counts": (Watch("dirichlet_multinomial", {}, learn=100),)}
    return msgspec.structs.replace(catalog, watches=watches)


def test_a_whole_distribution_that_moves_is_said_with_the_way_and_the_outcomes(whole):
    bench = Bench(whole)
    found = [*distributions(300, GOOD), *distributions(40, READ_WRONGLY, 300)]
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    (alert,) = bench.alerts
    assert (alert.name, alert.labels["detector"]) == ("DistributionDrift", "dirichlet_multinomial")
    assert alert.notes["ways"].startswith("readout of qubit 0")
    assert {each.split()[0] for each in alert.notes["moved"].split(", ")[:2]} == {"00", "01"}
    assert "this one from 100 observations" in alert.notes["guarantee"]
    assert 0 < alert.figures["budget_spent"] < 1 < alert.figures["evidence"]
    assert alert.figures["since_observations"] < 20


def test_a_watch_of_distributions_continues_where_it_was_and_begins_anew_when_asked(whole):
    found = [*distributions(150, GOOD), *distributions(40, READ_WRONGLY, 150)]
    one, other = Bench(whole), Bench(whole)
    one.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    for first in range(0, len(found), 19):
        piece = found[first : first + 19]
        other.apply(Pack("results", 0, first, first + len(piece), {KEY: piece}))
        restored = StreamStage(whole, 4)
        restored.restore(other.stage.snapshot())
        other.stage = restored
    assert one.alerts == other.alerts
    assert one.stage.snapshot() == other.stage.snapshot()
    rebaseline(one, signal="counts")
    assert [alert.status for alert in one.alerts] == ["firing", "resolved", "firing"]
    assert one.stage.drift.watches[0]._detectors[KEY + "\x1f2"].learning


def test_circuits_of_two_widths_are_watched_apart_and_a_wide_one_is_refused(whole):
    bench = Bench(whole)
    other, wide = packed({"000": 500, "111": 500}), packed({"0" * 9: 500, "1" * 9: 500})
    found = []
    for number, one in enumerate([*distributions(150, GOOD), *distributions(40, READ_WRONGLY, 150)]):
        narrow = msgspec.structs.replace(one, offset=2 * number, at=Log.START + 120 * number)
        found += [narrow, observation(2 * number + 1, None, outcomes=other)]
    bench.apply(Pack("results", 0, 0, 381, {KEY: [*found, observation(380, None, outcomes=wide)]}))
    (alert,) = bench.alerts
    assert alert.labels["width"] == "2"
    assert bench.stage.counters["refused", "counts"] == 1


@pytest.mark.parametrize(("before_it", "after_it"), [(0, 20), (0, 500), (0, 1000), (5, 40)])
def test_a_device_without_errors_that_begins_to_err_is_seen(bench, before_it, after_it):
    found = [observation(n, None, errors=before_it if n < 300 else after_it) for n in range(600)]
    bench.apply(Pack("results", 0, 0, 600, {KEY: found}))
    (alert,) = bench.alerts
    assert (alert.name, alert.notes["direction"]) == ("ErrorRateDrift", "up")
    assert alert.figures["observations"] < 330


@pytest.mark.parametrize(("share", "within"), [(0.0, 40), (0.5, 120), (0.9, 600)])
def test_a_workload_that_always_approves_and_then_does_not_is_seen(bench, share, within):
    rng = np.random.default_rng(16)
    outcomes = ["approve"] * 4000 + ["approve" if draw < share else "decline" for draw in rng.random(600)]
    found = [decided(number, outcome) for number, outcome in enumerate(outcomes)]
    bench.apply(Pack("jobs", 0, 0, len(found), {ANYWHERE: found}))
    assert bench.alerts[0].name == "DecisionDrift"
    assert bench.alerts[0].figures["observations"] < 4000 + within


def test_a_drift_that_becomes_a_collapse_pages(bench):
    fall = before(200, 3) - np.linspace(0, 0.5, 200)  # a ramp: the first alert is a small one
    bench.apply(samples(np.concatenate([before(500), fall, before(200, 4) - 0.5, before(200, 5)])))
    said = [(alert.name, alert.severity, alert.status) for alert in bench.alerts]
    assert said == [
        ("FidelityDrift", "ticket", "firing"),
        ("FidelityDrift", "ticket", "resolved"),
        ("FidelityCollapse", "page", "firing"),
        ("FidelityCollapse", "page", "resolved"),
    ]
    first, over, page, _ = bench.alerts
    assert first.figures["size"] > -0.1 > page.figures["size"]
    assert over.notes["ended"] == "it has become a FidelityCollapse"
    assert "budget_spent" not in page.figures


def test_results_of_fewer_shots_vary_more_and_are_no_drift(bench):
    rng = np.random.default_rng(17)
    found = [
        observation(n, float(rng.normal(0.94, 0.0075 if shots == 4000 else 0.03)), shots=shots)
        for n, shots in enumerate([4000] * 400 + [250, 4000] * 600)
    ]
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    assert not bench.alerts
    fall = [observation(1600 + n, float(rng.normal(0.85, 0.03)), shots=260) for n in range(40)]
    bench.apply(Pack("results", 0, 1600, 1640, {KEY: fall}))
    (alert,) = bench.alerts
    assert alert.labels["shots"] == "250"


@pytest.mark.parametrize(
    ("shots", "expected"), [(1, "1"), (999, "800"), (1000, "1000"), (1249, "1000"), (4096, "4000")]
)
def test_numbers_of_shots_are_rounded_down_to_preferred_ones(shots, expected):
    assert preferred(shots) == expected


def test_scores_with_a_rare_dip_are_no_drift(catalog):
    """A hundred scores of 1 do not prove that there is none of a half."""
    watches = {"explanation_score": (Watch("betting", {"direction": "down"}),)}
    stage = StreamStage(msgspec.structs.replace(catalog, watches=watches), 1)
    rng, log, fired = np.random.default_rng(18), Log(), 0
    keys = [stream_key(f"w-{number}", ANY) for number in range(100)]
    for minute in range(0, 3000, 50):
        scores = np.where(rng.random((100, 50)) < 1 / 200, 0.5, 1.0)
        found = {
            key: [
                Observation(minute + n, Log.START + 60 * (minute + n), "r", None, explanation_score=float(score))
                for n, score in enumerate(row)
            ]
            for key, row in zip(keys, scores, strict=True)
        }
        batch = log.batch(SAMPLES, [msgspec.msgpack.encode(Pack("jobs", 0, minute, minute + 50, found))])
        fired += len(stage.apply(batch).alerts)
    assert fired == 0


@pytest.fixture
def firing(bench):
    bench.apply(samples(np.concatenate([before(500), FALL[:60]])))
    assert [alert.status for alert in bench.alerts] == ["firing"]
    return bench


def restarted(bench, catalog):
    stage = StreamStage(catalog, 4)
    stage.restore(bench.stage.snapshot())
    bench.stage = stage
    bench.alerts.clear()
    return bench


def test_a_watch_that_is_no_more_ends_its_alerts(firing, catalog):
    (watch,) = catalog.watches["fidelity"]
    for watches in ({}, {"fidelity": (msgspec.structs.replace(watch, learn=300),)}):
        bench = restarted(firing, msgspec.structs.replace(catalog, watches=watches))
        bench.beat(1)
        (alert,) = bench.alerts
        assert (alert.status, alert.notes["ended"]) == ("resolved", "it is no longer watched so")
        firing = Bench(catalog)
        firing.apply(samples(np.concatenate([before(500), FALL[:60]])))


def test_a_baseline_changed_in_the_file_ends_the_alert_is_recorded_and_the_next_change_is_seen(catalog):
    bench = Bench(given_at(catalog, 0.94))
    bench.apply(samples(FALL[:60]))
    bench = restarted(bench, given_at(catalog, 0.88))
    bench.apply(samples(FALL[60:300], 60))
    assert [(alert.name, alert.status) for alert in bench.alerts] == [
        ("FidelityDrift", "resolved"),
        ("BaselineChanged", "firing"),
    ]
    assert bench.alerts[1].notes["by"] == "policies/detectors.yaml"
    bench.apply(samples(before(60, 9) - 0.5, 300))
    assert bench.alerts[-1].name == "FidelityCollapse"


def test_a_verdict_that_changes_ends_the_one_before_and_a_release_that_is_gone_ends_too(bench):
    bench.apply(canary_pack(before(60), before(60, 2) - 0.03))
    bench.apply(canary_pack(before(900, 3), before(900, 4) + 0.03, 120))
    said = [(alert.labels["verdict"], alert.status) for alert in bench.alerts]
    assert said[:3] == [("worse", "firing"), ("worse", "resolved"), (said[2][0], "firing")]
    worse, over = bench.alerts[:2]
    assert worse.fingerprint == over.fingerprint
    target = "route-planning/ibm_fez"
    assert [(type(each).__name__, each.directive, each.target) for each in bench.directives] == [
        ("Directive", "rollback_canary", target),
        ("Lifted", "rollback_canary", target),
    ]
    count = len(bench.alerts)
    bench.stage.clock.watched += 90_000
    bench.beat(1)
    (gone,) = bench.alerts[count:]
    assert (gone.status, gone.notes["ended"]) == ("resolved", "the release is gone")


def test_while_a_worse_canary_goes_on_it_is_ordered_back_again_before_the_order_ends(bench):
    orders = []
    for first in range(0, 6 * 1200, 1200):
        orders += bench.apply(canary_pack(before(120), before(120, 2) - 0.03, first)).directives
    assert len(orders) == 6
    assert all(later.issued_at < earlier.expires_at for earlier, later in pairwise(orders))
    assert sum(alert.status == "firing" for alert in bench.alerts) == 1


def test_waiting_times_are_said_as_factors_in_their_own_unit(catalog):
    watches = {"queue_seconds": (Watch("gaussian", {"direction": "up"}, learn=200, transform="log"),)}
    bench = Bench(msgspec.structs.replace(catalog, watches=watches))
    waits = np.exp(np.random.default_rng(6).normal([5.0] * 400 + [6.0] * 60, 0.3))
    found = [msgspec.structs.replace(observation(n, None), queue_seconds=float(w)) for n, w in enumerate(waits)]
    bench.apply(Pack("results", 0, 0, len(found), {KEY: found}))
    (alert,) = bench.alerts
    assert alert.figures["baseline"] == pytest.approx(np.exp(5.0), rel=0.1)
    assert alert.figures["factor_low"] < np.e < alert.figures["factor_high"]
    assert "by a factor of" in alert.summary


def test_a_constant_charge_that_moves_by_a_rounding_is_no_drift(bench):
    found = [
        Observation(n, Log.START + 60 * n, f"r-{n}", None, cost_usd=1.0 if n < 300 else 1.0005) for n in range(600)
    ]
    bench.apply(Pack("jobs", 0, 0, 600, {ANYWHERE: found}))
    assert not bench.alerts


def test_a_larger_spread_is_said_as_one(catalog):
    bench = Bench(msgspec.structs.replace(catalog, watches={"fidelity": (Watch("variance", {}),)}))
    wide = np.random.default_rng(19).normal(0.94, 0.03, 100)
    bench.apply(samples(np.concatenate([before(500), wide])))
    assert "went up in its spread by" in bench.alerts[0].summary
