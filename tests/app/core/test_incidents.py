"""Incidents (M8): one for each (fingerprint, startsAt), whatever order it is told in; times as worked out by hand."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.evidence import instant
from app.core.incidents import Incidents, Notification, Told, figures, phases

T0 = 1_790_000_000.0
NEVER = "0001-01-01T00:00:00Z"


def told(name, starts, ends=None, severity="page", fingerprint=None):
    return Told(
        status="firing" if ends is None else "resolved",
        labels={"alertname": name, "severity": severity},
        starts_at=instant(T0 + starts),
        ends_at=NEVER if ends is None else instant(T0 + ends),
        fingerprint=fingerprint or name,
    )


def notified(*alerts):
    return Notification(version="4", group_key="g", receiver="page", alerts=alerts)


class Desk:
    """Incidents that are told of at given times."""

    def __init__(self):
        self.incidents = Incidents()
        self.acts = []

    def hear(self, at, *alerts):
        acts = self.incidents.told(notified(*alerts), T0 + at)
        for act in acts:
            self.do(act)
        return acts

    def do(self, act):
        self.acts.append(act)
        self.incidents.take(act)

    def person(self, act, at, name, starts):
        one = next(
            one
            for one in self.incidents.known.values()
            if one.alertname == name and one.started_at == pytest.approx(T0 + starts)
        )
        done = self.incidents.done(one.incident_id, act, T0 + at, "jane", "")
        if done is not None:
            self.do(done)


def played():
    """Six incidents, with repeats, a re-opening and notifications out of order."""
    desk = Desk()
    # A: began at 0, told at 30, acknowledged at 90, mitigated at 330, over at 600; told three times, the end twice.
    desk.hear(30, told("A", 0))
    desk.hear(90, told("A", 0))
    desk.person("acknowledged", 90, "A", 0)
    desk.person("acknowledged", 200, "A", 0)
    desk.person("mitigated", 330, "A", 0)
    desk.hear(660, told("A", 0, 600))
    desk.hear(900, told("A", 0, 600))
    # A again, within the hour: began at 1200, told at 1210, over at 1500.
    desk.hear(1_210, told("A", 1_200))
    desk.hear(1_560, told("A", 1_200, 1_500))
    # B: the end arrives before the beginning; began at 2000, over at 2120; first heard of at 2130.
    desk.hear(2_130, told("B", 2_000, 2_120))
    desk.hear(2_140, told("B", 2_000))
    # C: told at 3060 of two at once; one over after 5 hours, the other still open.
    desk.hear(3_060, told("C", 3_000), told("D", 3_010))
    desk.person("acknowledged", 3_360, "C", 3_000)
    desk.hear(21_100, told("C", 3_000, 21_000))
    # A ticket, and what is nobody's.
    desk.hear(4_030, told("E", 4_000, severity="ticket"))
    desk.hear(4_900, told("E", 4_000, 4_840, severity="ticket"))
    desk.hear(5_000, told("Watchdog", 0, severity="none"))
    return desk


#: Worked out by hand from the times above.
BY_HAND = {
    ("page", "detect"): [30, 10, 130, 60, 50],
    ("page", "acknowledge"): [60, 300],
    ("page", "mitigate"): [300],
    ("page", "resolve"): [600, 300, 120, 18_000],
    ("ticket", "detect"): [30],
    ("ticket", "acknowledge"): [],
    ("ticket", "mitigate"): [],
    ("ticket", "resolve"): [840],
}


def test_times_are_those_worked_out_by_hand():
    found = phases(played().incidents.known.values())
    assert set(found) == set(BY_HAND)
    for key, values in BY_HAND.items():
        assert found[key].n == len(values), key
        if values:
            assert found[key].mean == pytest.approx(np.mean(values)), key
            assert found[key].median == pytest.approx(np.median(values)), key
    # Of 120, 300, 600, 18000: the mean is 4755, the median 450, nine in ten below 600 + 0.7 (18000 - 600).
    resolve = found["page", "resolve"]
    assert (resolve.mean, resolve.median) == pytest.approx((4_755, 450))
    assert resolve.p90 == pytest.approx(600 + 0.7 * 17_400)
    assert 120 <= resolve.low <= 450 <= resolve.high <= 18_000


def test_repeats_say_nothing_new():
    desk = Desk()
    assert [act.act for act in desk.hear(30, told("A", 0))] == ["opened"]
    assert desk.hear(60, told("A", 0)) == []
    assert [act.act for act in desk.hear(90, told("A", 0, 80))] == ["resolved"]
    assert desk.hear(95, told("A", 0, 80)) == []
    assert desk.hear(99, told("A", 0)) == [], "an old notification opens nothing again"
    assert len(desk.incidents.known) == 1


def test_the_same_alert_anew_is_another_incident_that_opens_the_first_again():
    incidents = played().incidents
    listed = incidents.listed()
    of_a = [one.incident_id for one in listed if one.alertname == "A"]
    assert incidents.reopened() == {of_a[0]: of_a[1]}
    assert [one.alertname for one in listed] == ["E", "D", "C", "B", "A", "A"]


def test_the_acts_may_come_in_any_order_and_any_number_of_times():
    acts = played().acts
    expected = [msgspec.to_builtins(one) for one in played().incidents.listed()]
    for seed in range(30):
        rng = np.random.default_rng(seed)
        again = Incidents()
        for place in rng.permutation(list(range(len(acts))) * 2):
            again.take(acts[place])
        assert [msgspec.to_builtins(one) for one in again.listed()] == expected
        assert again.reopened() == played().incidents.reopened()


def test_the_topic_holds_one_record_an_act():
    """Compaction keeps the last of each key: it must not lose what the fold takes the earliest of."""
    acts = played().acts
    assert len({act.key for act in acts}) == len(acts)


def test_phases_follow_each_other():
    desk = Desk()
    desk.hear(30, told("A", 0))
    (one,) = desk.incidents.known.values()
    assert one.phase == "detected"
    for act, phase in (("acknowledged", "acknowledged"), ("mitigated", "mitigated"), ("resolved", "resolved")):
        desk.person(act, 60, "A", 0)
        assert one.phase == phase


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_figures_are_ordered_and_the_interval_holds_the_median(values):
    found = figures(values)
    slack = 1e-6 * max(1.0, *values)
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack
    assert found.low - slack <= found.median <= found.p90 + slack
    assert found.median <= found.high + slack


def test_the_bootstrap_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(5)
    truth = np.log(2) * 600
    hits = 0
    for _ in range(300):
        found = figures(rng.exponential(600, 40).tolist())
        hits += found.low <= truth <= found.high
    assert 0.9 <= hits / 300 <= 0.99


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_beginning_an_end_and_a_repeat_in_any_order(order):
    heard = [told("A", 0), told("A", 0, 60), told("A", 0)]
    desk = Desk()
    for number, place in enumerate(order):
        desk.hear(70 + number, heard[place])
    (one,) = desk.incidents.known.values()
    assert (one.started_at, one.resolved_at) == (T0, T0 + 60)
    assert one.took("resolve") == 60


def test_what_fires_again_with_the_same_beginning_is_another_incident_that_goes_on_where_the_first_ended():
    """As after a cut between us and Alertmanager: the lease ended there, and is then taken up again."""
    desk = Desk()
    desk.hear(30, told("A", 0))
    desk.hear(300, told("A", 0, 290))
    assert desk.hear(400, told("A", 0)) == [], "late"
    assert [act.act for act in desk.hear(420, told("A", 0))] == ["opened"]
    assert desk.hear(480, told("A", 0)) == []
    assert desk.hear(500, told("A", 0, 290)) == [], "the first end, once more"
    assert [act.act for act in desk.hear(960, told("A", 0, 900))] == ["resolved"]
    second, first = desk.incidents.listed()
    assert (first.took("resolve"), second.started_at, second.took("resolve")) == (290, T0 + 290, 610)
    assert desk.incidents.reopened() == {second.incident_id: first.incident_id}
    assert [act.act for act in desk.hear(1_900, told("A", 0))] == ["opened"]
    assert len(desk.incidents.known) == 3


def test_what_a_person_resolved_is_not_opened_by_repeats_of_what_still_fires():
    desk = Desk()
    desk.hear(30, told("A", 0))
    desk.person("resolved", 60, "A", 0)
    assert desk.hear(3_600, told("A", 0)) == []


def test_what_is_said_with_an_act_is_a_note_even_if_it_was_done_already():
    desk = Desk()
    desk.hear(30, told("A", 0))
    (one,) = desk.incidents.known.values()
    for at, text in ((60, "routed to another device"), (90, "and the provider was told"), (95, "")):
        done = desk.incidents.done(one.incident_id, "mitigated", T0 + at, "jane", text)
        if done is not None:
            desk.do(done)
    assert one.mitigated_at == T0 + 60
    assert [note.split(" jane: ")[1] for note in one.notes] == ["routed to another device", "and the provider was told"]
    again = Incidents()
    for act in [*reversed(desk.acts), *desk.acts]:
        again.take(act)
    assert again.known == desk.incidents.known
