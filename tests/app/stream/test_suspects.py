"""A record that ends the process twice does not end it a third time; nothing else is set aside."""

from hypothesis import given, settings
from hypothesis import strategies as st
from records import Record

from app.stream.protocol import Batch, SetAside, Suspect
from app.stream.suspects import blamed, parts, still_ahead

LENGTH = 60


class Poisoned(Exception):
    pass


def life(log, poison, start, suspects, cuts):
    """One process: takes in what is to come from `start` on; returns what it took in, set aside, and who it blames."""
    taken, aside, place = [], [], start
    while place < LENGTH:
        end = min(LENGTH, place + next(cuts))
        for part, why in parts(suspects, "jobs", Batch("t.jobs", 0, place, end, log[place:end])):
            offsets = [record.offset for record in part.records]
            assert part.first == place
            if why is not None:
                aside += offsets
            elif poison & set(offsets):
                return taken, aside, blamed(suspects, "jobs", part, Poisoned("here"))
            else:
                taken += offsets
            place = part.next
    return taken, aside, None


@settings(deadline=None)
@given(
    st.sets(st.integers(0, LENGTH - 1), max_size=4),
    st.lists(st.integers(1, 20), min_size=1, max_size=30),
    st.integers(0, LENGTH),
)
def test_each_poisonous_record_is_set_aside_after_two_ends_and_the_others_are_taken(poison, sizes, checkpoint):
    """Every life begins where the last checkpoint was, and its batches are cut by another chance."""
    log = [Record(offset, 0, None, b"{}") for offset in range(LENGTH)]
    suspects, ends, start, held = (), 0, 0, []

    def cuts(life_number):
        while True:
            yield from sizes[life_number % len(sizes) :] + sizes

    while True:
        taken, aside, noted = life(log, poison, start, suspects, cuts(ends))
        if noted is None:
            break
        ends += 1
        assert ends <= 2 * len(poison)
        suspects = still_ahead(noted, {"jobs": start})
        reached = start + len(taken) + len(aside)
        if start < checkpoint <= reached and checkpoint not in poison:  # a checkpoint was written on the way
            held += [offset for offset in taken + aside if offset < checkpoint]
            start, checkpoint = checkpoint, LENGTH + 1
    assert set(aside) | (poison & set(held)) == poison
    assert sorted(held + taken + aside) == list(range(LENGTH))


def test_a_batch_that_is_not_suspected_is_one_part():
    batch = Batch("t.jobs", 0, 5, 9, [Record(offset, 0, None, b"") for offset in (5, 6, 8)])
    elsewhere = (Suspect("jobs", 9, 12, 2, "e"), Suspect("results", 5, 6, 2, "e"))
    assert parts(elsewhere, "jobs", batch) == [(batch, None)]


def test_parts_join_whatever_offsets_hold_no_record():
    batch = Batch("t.jobs", 0, 3, 12, [Record(offset, 0, None, b"") for offset in (5, 6, 9)])
    found = parts((Suspect("jobs", 6, 7, 2, "why"),), "jobs", batch)
    assert [(part.first, part.next, len(part.records)) for part, _ in found] == [(3, 6, 1), (6, 9, 1), (9, 12, 1)]
    assert [why for _, why in found] == [None, SetAside("poison", "it ended the process 2 times: why"), None]
