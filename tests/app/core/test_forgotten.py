"""What is kept of things long over: the last million, with their numbers, and nothing else."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import forgotten
from app.core.forgotten import MOST, Forgotten


def marks(count, seed=1):
    rng = random.Random(seed)
    return [rng.randbytes(8) for _ in range(count)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(forgotten, "GENERATION", 64)
    monkeypatch.setattr(forgotten, "RECENT", 10)


def test_every_mark_is_found_with_its_number_and_no_other_is():
    kept, known = Forgotten(), marks(200)
    for number, mark in enumerate(known):
        kept.add(mark, MOST - number)
    assert [kept.get(mark) for mark in known] == [MOST - number for number in range(200)]
    assert {kept.get(mark) for mark in marks(1_000, seed=2)} == {None}


def test_the_oldest_generation_makes_room():
    kept, known = Forgotten(most=3), marks(64 * 4)
    for mark in known:
        kept.add(mark)
    assert {kept.get(mark) for mark in known[:64]} == {None}
    assert {kept.get(mark) for mark in known[64:]} == {0}


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_a_restored_one_knows_the_same_and_goes_on_the_same(count):
    kept, known = Forgotten(), marks(count)
    for number, mark in enumerate(known):
        kept.add(mark, number)
    restored = Forgotten(kept.snapshot())
    for number, mark in enumerate(marks(100, seed=3)):
        for one in (kept, restored):
            one.add(mark, number)
    assert restored.snapshot() == kept.snapshot()
    assert [restored.get(mark) for mark in known] == [kept.get(mark) for mark in known]


def test_a_mark_that_is_added_again_has_its_last_number():
    kept, (mark, *others) = Forgotten(), marks(100)
    kept.add(mark, 1)
    for other in others:
        kept.add(other)
    kept.add(mark, 2)
    assert kept.get(mark) == 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, MOST)), max_size=400),
    st.lists(st.integers(0, 400), max_size=4),
)
def test_wherever_it_is_cut_it_is_a_dict_of_the_last_generations(added, cuts):
    """Held against the same kept in plain dicts, a generation each."""
    kept, full, filling = Forgotten(most=3), [], {}
    for place, (name, number) in enumerate(added):
        if place in cuts:
            kept = Forgotten(kept.snapshot(), most=3)
        kept.add(name.to_bytes(8, "big"), number)
        filling[name] = number
        if len(filling) >= 64:
            full, filling = [*full, filling][-3:], {}
    for name in range(91):
        known = next((one[name] for one in (filling, *reversed(full)) if name in one), None)
        assert kept.get(name.to_bytes(8, "big")) == known
    assert [len(marks) // 8 for marks, _ in kept.snapshot()] == [*map(len, full), len(filling)]
