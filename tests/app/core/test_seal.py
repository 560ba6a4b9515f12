"""Control records are sealed with the deployment's key: nobody else makes one, moves one or writes an old one again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import Log, Record

from app.conventions import GAP_HEADER, HEARTBEAT_HEADER, JOBS, POLICY_HEADER, REBASELINE_HEADER, RESULTS, SAMPLES
from app.core.decode import Reason, Rejection
from app.core.outcomes import Gap, Outcomes
from app.core.records import Control, control
from app.core.runs import RunStage
from app.core.seal import UNSEALED, Seal
from app.sinks import gaps

KEY, OTHER = b"k" * 32, b"o" * 32
SEAL = Seal([KEY])
NAMES = st.sampled_from([HEARTBEAT_HEADER, GAP_HEADER, REBASELINE_HEADER, POLICY_HEADER])


def sealed(name=HEARTBEAT_HEADER, text=b"1", value=b"{}", *, seal=SEAL, topic=JOBS, partition=0, at=Log.START):
    return Record(0, int(at * 1000), None, value, tuple(seal.headers(topic, partition, name, text, value, at)))


def said(record, *, seal=SEAL, topic=JOBS, partition=0, at=Log.START):
    return control(record, topic, partition, seal, at)


@given(NAMES, st.binary(min_size=1, max_size=100), st.binary(max_size=1000))
def test_what_the_key_sealed_is_a_control_record(name, text, value):
    assert isinstance(said(sealed(name, text, value)), Control)


@given(NAMES, st.integers(0, 200), st.integers(1, 255), st.sampled_from(["headers", "value"]))
def test_one_changed_byte_breaks_the_seal(name, place, by, what):
    record = sealed(name, b"text", b"value")
    if what == "value":
        place %= len(record.value)
        changed = record._replace(value=flipped(record.value, place, by))
    else:
        (first, text), (header, mark) = record.headers
        place %= len(text) + len(mark)
        both = flipped(text + mark, place, by)
        changed = record._replace(headers=((first, both[: len(text)]), (header, both[len(text) :])))
    assert refused(said(changed))


def flipped(given, place, by):
    return given[:place] + bytes([given[place] ^ by]) + given[place + 1 :]


def refused(found):
    return isinstance(found, Rejection) and found.reason in {Reason.UNSEALED_CONTROL, Reason.INVALID_FIELD}


@pytest.mark.parametrize(
    "record",
    [
        Record(0, 0, None, b"{}", ((HEARTBEAT_HEADER, b"1"),)),
        sealed(seal=Seal([OTHER])),
        sealed(topic=RESULTS),
        sealed(partition=1),
        sealed(at=Log.START - 301),
    ],
    ids=["without", "another key", "another topic", "another partition", "an old one"],
)
def test_a_record_that_this_deployment_did_not_write_here_and_now_is_refused(record):
    assert refused(said(record))


def test_a_sealed_heartbeat_is_dated_by_its_seal():
    record = sealed(at=Log.START)._replace(timestamp=4_000_000_000_000)
    assert said(record).heartbeat == Log.START


def test_a_key_is_replaced_without_a_break():
    both = Seal([OTHER, KEY])
    assert isinstance(said(sealed(), seal=both), Control)
    assert isinstance(said(sealed(seal=both), seal=Seal([OTHER])), Control)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Seal([b"short"])


def test_without_a_key_nothing_is_sealed_and_nothing_asked_for():
    record = sealed(seal=UNSEALED)
    assert record.headers == ((HEARTBEAT_HEADER, b"1"),)
    assert isinstance(said(record, seal=UNSEALED), Control)


def test_a_forged_heartbeat_moves_no_time_and_is_a_dead_letter(catalog, policy):
    stage, log = RunStage(catalog, policy, 1, seal=SEAL), Log()
    (letter,) = stage.apply(log.heartbeat(JOBS, Log.START)).dead_letters
    assert (letter.reason, stage.clocks[JOBS].at) == (Reason.UNSEALED_CONTROL, 0.0)
    headers = tuple(SEAL.headers(JOBS, 0, HEARTBEAT_HEADER, b"1", b"{}", Log.START))
    assert not stage.apply(log.batch(JOBS, [b"{}"], Log.START, headers)).dead_letters
    assert stage.clocks[JOBS].at == Log.START


def test_notices_of_lost_events_are_sealed_for_the_partition_they_go_to():
    (line,) = gaps.sink(SEAL).lines(Outcomes(gaps=[Gap(3, "gateway")]))
    record = Record(0, 0, None, line.value, tuple(line.headers))
    assert said(record, partition=3).gap == "gateway"
    assert refused(said(record, partition=2))
    assert refused(control(record, SAMPLES, 3, SEAL, 0.0))
