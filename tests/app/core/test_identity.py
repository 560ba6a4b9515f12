"""An event is its source and its id; another content under a known id is told of, and counts nowhere."""

import json

from hypothesis import given
from hypothesis import strategies as st
from records import Log, dump, event, lifecycle, result

from app.conventions import CONFLICT_ALERT, JOBS, RESULTS, SAMPLES
from app.core.decode import Reason
from app.core.identity import event_mark, outcome_id
from app.core.runs import RunStage
from app.core.streams import StreamStage
from app.sinks import samples

TEXT = st.text(max_size=12)


@given(
    st.lists(st.text("a\x1f\x1e\\s", max_size=5), max_size=4), st.lists(st.text("a\x1f\x1e\\s", max_size=5), max_size=4)
)
def test_no_two_causes_have_one_id(one, other):
    assert (outcome_id("kind", *one) == outcome_id("kind", *other)) == (one == other)


@given(TEXT, TEXT, TEXT, TEXT)
def test_no_two_events_have_one_mark(producer, event_id, other, other_id):
    same = (producer, event_id) == (other, other_id)
    assert (event_mark(JOBS, producer, event_id) == event_mark(JOBS, other, other_id)) == same
    assert event_mark(JOBS, producer, event_id) != event_mark(RESULTS, producer, event_id)


def applied(catalog, policy, topic, *values, headers=()):
    stage, log = RunStage(catalog, policy, 1), Log()
    dead = stage.apply(log.batch(topic, [*values], headers=headers)).dead_letters
    return stage, dead


def test_an_event_that_is_sent_again_counts_once_however_its_text_is_laid_out(catalog, policy):
    value = event("cost", amount_usd=1)
    other = json.dumps(dict(reversed(value.items())), indent=2).encode()
    stage, dead = applied(catalog, policy, JOBS, value, value, other)
    assert (stage.counters["applied", JOBS], stage.counters["duplicate", JOBS], dead) == (1, 2, [])


def test_another_content_under_a_known_id_is_a_dead_letter_and_one_alert_a_producer(catalog, policy):
    stage, streams, log, alerts, dead = RunStage(catalog, policy, 1), StreamStage(catalog, 1), Log(), [], []
    declared, routed = lifecycle()[0], lifecycle()[2]
    values = [declared, {**declared, "sensitivity": "public"}, routed, {**routed, "endpoint": "elsewhere"}]
    for value in values:
        outcomes = stage.apply(log.batch(JOBS, [value]))
        dead += outcomes.dead_letters
        lines = [line.value for line in samples.SINK.lines(outcomes)]
        alerts += streams.apply(log.batch(SAMPLES, lines)).alerts
    assert [letter.reason for letter in dead] == [Reason.CONFLICTING_DUPLICATE] * 2
    assert [letter.record.value for letter in dead] == [dump(values[1]), dump(values[3])]
    assert stage.counters["applied", JOBS] == 2
    (alert,) = [one for one in alerts if one.name == CONFLICT_ALERT]
    assert (alert.labels, alert.severity) == ({"producer": "test"}, "ticket")


def test_two_producers_may_use_one_id(catalog, policy):
    values = [event("cost", producer=producer, event_id="1", amount_usd=1) for producer in ("one", "two")]
    stage, dead = applied(catalog, policy, JOBS, *values)
    assert (stage.counters["applied", JOBS], dead) == (2, [])


def test_how_the_logs_are_interleaved_does_not_decide_which_of_two_events_counts(catalog, policy):
    job, measured = event("completed", event_id="7"), result(event_id="7")
    found = []
    for order in ((JOBS, RESULTS), (RESULTS, JOBS)):
        stage, log = RunStage(catalog, policy, 1), Log()
        for topic in order:
            stage.apply(log.batch(topic, [job if topic == JOBS else measured]))
        found.append({key: value for key, value in stage.counters.items() if key[0] in {"applied", "duplicate"}})
    assert found[0] == found[1] == {("applied", JOBS): 1, ("applied", RESULTS): 1}


def test_cloudevents_of_three_sources_may_all_have_the_id_1(catalog, policy):
    stage, log = RunStage(catalog, policy, 1), Log()
    for source, kind in (("/gateway", "submitted"), ("/scheduler", "routed"), ("/device", "completed")):
        named = {"specversion": "1.0", "id": "1", "source": source, "type": f"io.q.{kind}", "subject": "r"}
        headers = [(f"ce_{name}", text.encode()) for name, text in named.items()]
        headers.append(("ce_time", b"2026-09-21T12:00:00Z"))
        assert not stage.apply(log.batch(JOBS, [{"seq": 0}], headers=tuple(headers))).dead_letters
    assert stage.counters["applied", JOBS] == 3


def test_a_charge_that_comes_again_after_its_run_was_forgotten_is_still_known_by_its_source(catalog, policy):
    stage, log = RunStage(catalog, policy, 1), Log()
    stage.apply(log.batch(JOBS, [lifecycle()[0], event("rejected"), event("cost", amount_usd=1)]))
    for second in range(900):
        for topic in RunStage.topics:
            stage.apply(log.heartbeat(topic, Log.START + second))
    assert not stage.closed
    late = [event("cost", amount_usd=1), event("cost", producer="other", amount_usd=1)]
    assert not stage.apply(log.batch(JOBS, late, Log.START + 900)).dead_letters
    assert stage.counters["duplicate", JOBS] == 1
    assert stage.counters["spend", "logistics", "quantum"] == 2_000_000
