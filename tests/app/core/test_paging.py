"""Leases: what is sent to an Alertmanager, when again, and until when."""

import itertools
import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.evidence import instant
from app.core.outcomes import Alert
from app.core.paging import LEASE_SECONDS, RESEND_SECONDS, Book, leased, posted
from app.core.telling import RESOLVED_SECONDS, Telling

NOW = 1_790_000_000.0
RUNBOOKS = "http://127.0.0.1:6068/runbooks"


def alert(status="firing", at=NOW, name="FidelityDrift", severity="ticket", **fields):
    known = {
        "alert_id": "a",
        "fingerprint": name,
        "labels": {"backend": "ibm_fez"},
        "summary": "It drifts.",
        "figures": {"size": -0.05},
    }
    return Alert(name=name, severity=severity, status=status, at=instant(at), **{**known, **fields})


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def book():
    return Book(RUNBOOKS)


@pytest.fixture
def telling():
    """An Alertmanager that tells everybody at once."""
    return Telling({}, {})


def send(book, telling, now):
    """What is due, as if it was taken."""
    due = telling.due(book.leases(), now)
    for each in due:
        telling.taken(each, now, now)
    return [posted(each, now, "http://pager") for each in due]


def test_what_fires_is_sent_at_once_and_again_every_minute_with_a_lease_of_four(book, telling):
    book.take(alert())
    (first,) = send(book, telling, NOW)
    assert seconds(first.ends_at) - NOW == LEASE_SECONDS == 4 * RESEND_SECONDS
    assert RESEND_SECONDS <= 60
    assert not send(book, telling, NOW + RESEND_SECONDS / 2)
    # With a second until somebody looks and some for the answer it is a minute at most.
    (again,) = send(book, telling, NOW + 55)
    assert (again.labels, again.starts_at) == (first.labels, first.starts_at)
    assert seconds(again.ends_at) - NOW == 55 + LEASE_SECONDS


def test_what_is_resolved_is_sent_at_once_and_for_a_quarter_of_an_hour_more(book, telling):
    book.take(alert())
    send(book, telling, NOW)
    book.take(alert("resolved", NOW + 10))
    (over,) = send(book, telling, NOW + 11)
    assert over.ends_at == instant(NOW + 10)
    assert over.labels["backend"] == "ibm_fez"
    said, now = [NOW + 11], NOW + 11
    while now < NOW + 2_000:
        now += 1
        book.forget(now)
        said += [now] * len(send(book, telling, now))
    assert max(later - sooner for sooner, later in itertools.pairwise(said)) < RESEND_SECONDS
    assert RESOLVED_SECONDS - RESEND_SECONDS < said[-1] - (NOW + 10) <= RESOLVED_SECONDS
    assert not list(book.firing())


def test_a_refresh_is_the_same_alert_since_it_began(book, telling):
    book.take(alert())
    send(book, telling, NOW)
    book.take(alert(at=NOW + 60, figures={"runs": 5.0}))
    (again,) = send(book, telling, NOW + 60)
    assert again.starts_at == instant(NOW)
    assert "runs 5" in again.annotations["description"]


def test_of_a_refresh_alone_the_beginning_is_known(book):
    """A compacted topic has the last record only."""
    book.take(alert(at=NOW + 600, notes={"since": instant(NOW)}))
    ((one),) = book.firing()
    assert one.starts_at == NOW


def test_a_new_beginning_after_the_end_is_a_new_alert(book, telling):
    for each in (alert(), alert("resolved", NOW + 10), alert(at=NOW + 20)):
        book.take(each)
    (one,) = send(book, telling, NOW + 20)
    assert one.starts_at == instant(NOW + 20)


def test_what_fired_before_an_end_that_is_known_does_not_fire_again(book):
    book.take(alert(at=NOW))
    book.take(alert("resolved", NOW + 10))
    for at in (NOW, NOW + 5):
        assert not book.take(alert(at=at))
    assert not book.take(alert(at=NOW + 9, notes={"since": instant(NOW + 8)}))
    assert not list(book.firing())
    assert book.take(alert(at=NOW + 11))
    assert not book.take(alert("resolved", NOW + 10))  # which is said again, and ends what was before
    assert [each.starts_at for each in book.firing()] == [NOW + 11]


def test_an_end_that_a_clock_put_ahead_holds_up_nothing_that_fires_afterwards(book):
    book.take(alert(at=NOW), NOW)
    book.take(alert("resolved", NOW + 3_600), NOW + 10)
    assert book.take(alert(at=NOW + 20), NOW + 20)
    assert [each.starts_at for each in book.firing()] == [NOW + 20]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_in_whatever_order_and_however_often_records_come_what_was_said_last_holds(said, rng):
    """The last record by time decides; what comes of the others is ordered by it, and nothing comes back to life."""
    by_time = sorted({at: "firing" if fires else "resolved" for fires, at in said}.items())
    records = [alert(status, NOW + at) for at, status in by_time]
    if not records:
        return
    late = records + rng.choices(records, k=len(records))
    book = Book(RUNBOOKS)
    for each in records:
        book.take(each)
    before = [each.starts_at for each in book.firing()]
    for each in late[len(records) :]:
        book.take(each)
    assert [each.starts_at for each in book.firing()] == before
    assert bool(before) == (records[-1].status == "firing")


def test_what_has_ended_is_bounded(book):
    for number in range(10_500):
        book.take(alert("resolved", NOW + number / 1000, fingerprint=f"f{number}"))
    book.forget(NOW + 60)
    known = {each.fingerprint for each in book.leases()}
    assert len(known) == 10_000
    assert "f10499" in known
    assert "f0" not in known


def test_pages_are_sent_before_tickets(book, telling):
    for number in range(5):
        book.take(alert(name=f"Ticket{number}"))
    book.take(alert(name="Page", severity="page"))
    assert telling.due(book.leases(), NOW)[0].labels["alertname"] == "Page"


def test_information_pages_nobody(book, telling):
    assert not book.take(alert(severity="info"))
    assert not telling.due(book.leases(), NOW)


def test_an_alert_of_the_future_fires_now(book, telling):
    book.take(alert(at=NOW + 3_600))
    (said,) = send(book, telling, NOW)
    assert seconds(said.starts_at) <= NOW
    book.take(alert("resolved", NOW + 7_200))
    (said,) = send(book, telling, NOW)
    assert seconds(said.starts_at) <= seconds(said.ends_at) <= NOW


text = st.text(max_size=60)


@given(labels=st.dictionaries(text, text, max_size=5), summary=text, notes=st.dictionaries(text, text, max_size=3))
def test_whatever_is_said_has_names_and_values_that_alertmanager_takes(labels, summary, notes):
    made = leased(alert(labels=labels, summary=summary, notes={**notes, "since": instant(NOW)}), RUNBOOKS, 1)
    for name, value in made.labels.items():
        assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)
        assert value.strip()
    assert made.labels["alertname"] == "FidelityDrift"
