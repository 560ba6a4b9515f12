"""The directives in force: what was lifted stays lifted, and what is too old to know is not gone by."""

import msgspec
import pytest
from records import Log, Record

from app.core.evidence import instant
from app.core.outcomes import Directive
from app.directives import Directives

KEY = b"freeze_offload/logistics"


def order(at, directive_id="d"):
    value = Directive(
        directive_id=directive_id,
        directive="freeze_offload",
        target="logistics",
        reason="the hour is spent",
        issued_at=instant(at),
        expires_at=instant(at + 3600),
    )
    return msgspec.json.encode(value)


@pytest.fixture
def known():
    return Directives(None, "directives", 1)


def take(known, *values):
    for offset, value in enumerate(values):
        known._take(Record(offset, 0, KEY, value))
    return [each.directive_id for each in known._known.values()]


def test_a_directive_that_comes_after_it_was_lifted_does_not_come_back_to_life(known):
    first = order(Log.START, "first")
    assert take(known, first) == ["first"]
    assert take(known, None) == []
    assert take(known, first) == []
    assert take(known, order(Log.START - 60, "older")) == []
    assert take(known, order(Log.START + 0.5, "next")) == ["next"]


def test_a_tombstone_of_what_nobody_saw_hides_nothing(known):
    assert take(known, None, order(Log.START)) == ["d"]


@pytest.mark.parametrize("value", [b"", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"directive_id":"\\ud800"}'])
def test_what_is_no_directive_is_counted_and_changes_nothing(known, value):
    assert take(known, order(Log.START), value) == ["d"]
    assert known.unreadable == 1


def test_the_gate_is_not_ready_before_the_directives_were_read(known):
    assert "being read" in known.not_ready()
