"""The clock of a log: no single stamp moves it, and an honest one always does."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.clock import MAX_STEP_SECONDS, WINDOW, Clock

START = 1_790_000_000.0
TEN_YEARS = 3650 * 86_400


def beaten(*stamps, clock=None):
    clock = clock or Clock()
    for stamp in stamps:
        clock.advance(stamp)
    return clock


def honest(first, count):
    return [START + second for second in range(first, first + count)]


def test_honest_heartbeats_are_the_time():
    clock = beaten(*honest(0, 100))
    assert clock.at == START + 99
    assert clock.watched == 99 + MAX_STEP_SECONDS


@given(st.integers(WINDOW, 40), st.lists(st.floats(-TEN_YEARS, TEN_YEARS), min_size=1, max_size=WINDOW // 2 - 1))
@settings(max_examples=200, deadline=None)
def test_fewer_than_half_of_a_window_of_wrong_stamps_move_nothing(before, wrong):
    clock = beaten(*honest(0, before))
    for stamp in wrong:
        clock.advance(START + before + stamp)
    assert START + before - 3 <= clock.at <= START + before + MAX_STEP_SECONDS * (len(wrong) + 1)
    beaten(*honest(before + len(wrong), WINDOW), clock=clock)
    # Each wrong stamp can have moved the time watched by one step too much, and the median takes that out.
    assert abs(clock.at - (START + before + len(wrong) + WINDOW - 1)) < 0.01 * len(wrong) + 0.01


def test_a_clock_ahead_for_five_seconds_ends_nothing_for_good():
    clock = beaten(*honest(0, 60), *(stamp + TEN_YEARS for stamp in honest(60, 5)))
    assert clock.at < START + 70
    assert beaten(*honest(65, 60), clock=clock).at == START + 124


def test_a_heartbeat_ahead_does_not_hold_time_still():
    clock = beaten(*honest(0, 60), START + 60 + 299)
    watched = clock.watched
    assert beaten(*honest(61, 290), clock=clock).watched - watched > 285


def test_after_an_absence_the_time_is_believed_after_half_a_window():
    clock = beaten(*honest(0, 60))
    away = 36_000
    beaten(*honest(away, WINDOW // 2), clock=clock)
    assert clock.at < START + 120
    beaten(*honest(away + WINDOW // 2, 1), clock=clock)
    assert clock.at == START + away + WINDOW // 2
    assert clock.watched < 90, "nobody watched while nobody was there"


def test_a_clock_that_is_set_back_for_good_is_followed():
    clock = beaten(*honest(0, 60))
    assert beaten(*honest(-3600, WINDOW), clock=clock).at == START - 3600 + WINDOW - 1


@given(st.lists(st.floats(0, 5e9), max_size=60))
def test_time_watched_never_goes_back_and_no_stamp_moves_it_by_more_than_a_step(stamps):
    clock, before = Clock(), 0.0
    for stamp in stamps:
        clock.advance(stamp)
        assert 0 <= clock.watched - before <= MAX_STEP_SECONDS + 1e-6
        before = clock.watched
