"""Bytes to events: what is taken, what is refused and why, and that nothing raises."""

import base64
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import dump, event, lifecycle, result

from app.core import events
from app.core.decode import MAX_BYTES, Reason, Rejection, decode_job, decode_result, nesting


def nested(depth):
    return b'{"type":"started","x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


BAD_JOBS = {
    "truncated JSON": (dump(event("started"))[:-5], Reason.MALFORMED_JSON),
    "not UTF-8": (dump(event("started")).replace(b"test", b"te\xffst"), Reason.NOT_UTF8),
    "not UTF-8 in a field that nobody knows": (
        dump(event("started", x="text")).replace(b"text", b"\xff"),
        Reason.NOT_UTF8,
    ),
    "1 MiB + 1 byte": (b" " * (MAX_BYTES + 1), Reason.TOO_LARGE),
    "nesting 65": (nested(65), Reason.TOO_DEEP),
    "NaN": (dump(event("cost"))[:-1] + b',"amount_usd":NaN}', Reason.NON_FINITE),
    "Infinity": (dump(event("cost"))[:-1] + b',"amount_usd":-Infinity}', Reason.NON_FINITE),
    "a float out of range": (dump(event("cost"))[:-1] + b',"amount_usd":1e999}', Reason.NON_FINITE),
    "unknown type": (dump(event("exploded")), Reason.UNKNOWN_TYPE),
    "no type": (b'{"event_id":"x"}', Reason.UNKNOWN_TYPE),
    "unknown schema version": (dump(event("started", schema_version=2)), Reason.UNKNOWN_SCHEMA_VERSION),
    "missing run_id": (dump({k: v for k, v in event("started").items() if k != "run_id"}), Reason.MISSING_FIELD),
    "run_id of 10 kB": (dump(event("started", "r" * 10_000)), Reason.INVALID_FIELD),
    "a wrong type": (dump(event("submitted", shots="many")), Reason.INVALID_FIELD),
    "a time in year 9999": (
        dump({**event("started"), "at": "9999-12-31T23:59:59Z"}),
        Reason.TIME_OUT_OF_RANGE,
    ),
    "no time at all": (dump({**event("started"), "at": "yesterday"}), Reason.TIME_OUT_OF_RANGE),
    "a null value": (None, Reason.NULL_VALUE),
    "an empty value": (b"", Reason.EMPTY_VALUE),
}
BAD_RESULTS = {
    "negative counts": (dump(result(counts={"0": -1, "1": 101})), Reason.INVALID_FIELD),
    "counts that do not add up": (dump(result(counts={"0": 1})), Reason.COUNTS_MISMATCH),
    "zero shots": (dump(result(shots=0, counts={})), Reason.INVALID_FIELD),
    "an outcome of letters": (dump(result(counts={"0x1f": 100})), Reason.BAD_BITSTRING),
    "fidelity above 1": (dump(result(fidelity=1.5)), Reason.INVALID_FIELD),
}


@pytest.mark.parametrize("name", BAD_JOBS)
def test_a_bad_job_event_is_rejected_with_its_reason(name):
    value, reason = BAD_JOBS[name]
    rejection = decode_job(value)
    assert isinstance(rejection, Rejection)
    assert reason == rejection.reason


@pytest.mark.parametrize("name", BAD_RESULTS)
def test_a_bad_result_is_rejected_with_its_reason(name):
    value, reason = BAD_RESULTS[name]
    rejection = decode_result(value)
    assert isinstance(rejection, Rejection)
    assert reason == rejection.reason


def nesting_by_byte(value):
    """The definition: a text byte by byte."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in value:
        if in_string:
            if escaped:
                escaped = False
            elif byte == ord("\\"):
                escaped = True
            elif byte == ord('"'):
                in_string = False
        elif byte == ord('"'):
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


@settings(max_examples=2_000)
@given(st.lists(st.sampled_from(b'"\\[]{}a\n\xff'), max_size=40).map(bytes))
def test_nesting_in_arrays_is_nesting_byte_by_byte_whatever_the_text(value):
    assert nesting(value) == nesting_by_byte(value)


def test_nesting_64_is_taken_and_brackets_in_strings_do_not_count():
    assert decode_job(nested(64)).reason == Reason.MISSING_FIELD
    text = dump(event("failed", error="[" * 200 + '\\"{'))
    assert isinstance(decode_job(text), events.Failed)


DEEP_PLACES = {
    "a field that is unknown": lambda deep: dump(event("started"))[:-1] + b',"x":' + deep + b"}",
    "a known field of another kind": lambda deep: dump(event("started"))[:-1] + b',"seq":' + deep + b"}",
    "beside text that is no UTF-8": lambda deep: dump(event("started"))[:-1] + b',"y":"\xff","x":' + deep + b"}",
    "beside a key that stands twice": lambda deep: dump(event("started"))[:-1] + b',"x":1,"x":' + deep + b"}",
    "a text that never ends": lambda deep: dump(event("started"))[:-1] + b',"x":' + deep,
}


@pytest.mark.parametrize("openings", [b"[", b'{"a":'], ids=["arrays", "objects"])
@pytest.mark.parametrize("depth", [1, 63, 64, 300, 2_000, 100_000])
@pytest.mark.parametrize("place", DEEP_PLACES)
def test_what_is_nested_too_deeply_is_refused_as_that_wherever_it_stands(place, depth, openings):
    value = DEEP_PLACES[place](openings * depth + b"0" + (b"]" if openings == b"[" else b"}") * depth)
    read = decode_job(value)
    assert (isinstance(read, Rejection) and read.reason == Reason.TOO_DEEP) == (1 + depth > 64)


def test_every_type_of_the_contract_is_decoded():
    kinds = [type(decode_job(dump(value))) for value in lifecycle()]
    assert kinds == [
        events.Submitted,
        events.Admitted,
        events.Routed,
        events.Started,
        events.Completed,
        events.DecisionMade,
        events.Cost,
    ]
    assert isinstance(decode_result(dump(result())), events.Result)


def test_unknown_fields_are_passed_over_so_that_producers_may_be_ahead():
    assert isinstance(decode_job(dump(event("started", from_the_future={"a": [1]}))), events.Started)


BINARY = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"ce-1"),
    ("ce_source", b"scheduler"),
    ("ce_type", b"io.qethics.job.started"),
    ("ce_subject", b"run-9"),
    ("ce_time", b"2026-09-21T14:13:20Z"),
    ("content-type", b"application/json"),
)


def test_a_binary_cloudevent_fills_in_what_the_data_leaves_out():
    started = decode_job(b'{"seq":3}', BINARY)
    assert isinstance(started, events.Started)
    assert (started.event_id, started.producer, started.run_id, started.seq) == ("ce-1", "scheduler", "run-9", 3)


def test_the_data_of_a_binary_cloudevent_wins_over_its_attributes():
    assert decode_job(dump(event("started")), BINARY).run_id == "run-1"


@pytest.mark.parametrize("encoded", [False, True])
def test_a_structured_cloudevent_is_taken(encoded):
    data = {"type": "started", "run_id": "run-9", "seq": 3}
    envelope = {
        "specversion": "1.0",
        "id": "ce-1",
        "source": "scheduler",
        "type": "io.qethics.job.started",
        "time": "2026-09-21T14:13:20Z",
    }
    body = {"data_base64": base64.b64encode(json.dumps(data).encode()).decode()} if encoded else {"data": data}
    headers = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
    started = decode_job(dump({**envelope, **body}), headers)
    assert isinstance(started, events.Started)
    assert (started.event_id, started.run_id) == ("ce-1", "run-9")


@pytest.mark.parametrize(
    "change",
    [{"specversion": "0.3"}, {"id": ""}, {"data": "text"}, {"data_base64": "!"}, {"data_base64": 5}],
)
def test_a_wrong_cloudevent_is_rejected(change):
    envelope = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {}} | change
    rejection = decode_job(dump(envelope), (("content-type", b"application/cloudevents+json"),))
    assert rejection.reason == Reason.CLOUDEVENTS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(sorted({*events.Submitted.__struct_fields__, *events.Result.__struct_fields__, "type"}))
mutated = st.builds(
    lambda base, changes: json.dumps({**base, **changes}).encode("utf-8", "surrogatepass"),
    st.sampled_from([event("submitted"), event("cost", amount_usd=1), result()]),
    st.dictionaries(fields, json_values, max_size=3),
)
cut = st.builds(
    lambda text, at, byte: text[:at] + bytes([byte]) + text[at + 1 :], mutated, st.integers(0, 300), st.integers(0, 255)
)
header_names = st.sampled_from(["ce_specversion", "ce_id", "ce_type", "content-type", "traceparent"])
header_values = st.sampled_from([b"1.0", b"", b"\xff", b"application/cloudevents+json", b"x"]) | st.binary(max_size=8)
headers = st.lists(st.tuples(header_names, header_values), max_size=4).map(tuple)


@settings(max_examples=2_500, deadline=None)
@given(st.one_of(st.binary(max_size=200), mutated, cut), headers)
def test_nothing_that_is_thrown_at_decode_comes_back_as_an_exception(value, given_headers):
    for decode, kind in ((decode_job, events.JobEvent), (decode_result, events.Result)):
        assert isinstance(decode(value, given_headers), kind | Rejection)


@settings(max_examples=300, deadline=None)
@given(mutated)
def test_what_is_taken_in_survives_a_round_trip(value):
    taken = decode_job(value)
    if not isinstance(taken, Rejection):
        assert decode_job(msgspec.json.encode(taken)) == taken


REPEATED = {
    "at the top": b'{"type":"started","event_id":"e","run_id":"a","at":"2026-01-01T00:00:00Z","producer":"p","seq":0,'
    b'"run_id":"b"}',
    "the tag": b'{"type":"started","type":"completed","event_id":"e","run_id":"a","at":"2026-01-01T00:00:00Z",'
    b'"producer":"p","seq":0}',
    "escaped": b'{"type":"started","event_id":"e","run_id":"a","at":"2026-01-01T00:00:00Z","producer":"p","seq":0,'
    b'"\\u0072un_id":"b"}',
    "within": b'{"type":"submitted","event_id":"e","run_id":"a","at":"2026-01-01T00:00:00Z","producer":"p","seq":0,'
    b'"consent":{"granted":true,"granted":false}}',
    "spread": b'{"type"\t:\n"started","event_id":"e","run_id":"a","at":"2026-01-01T00:00:00Z","producer":"p",'
    b'"seq":0,\n"seq" : 1}',
    "among unknown fields": b'{"type":"started","event_id":"e","run_id":"a","at":"2026-01-01T00:00:00Z",'
    b'"producer":"p","seq":0,"more":{"x":1,"x":2}}',
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_key_that_stands_twice_is_refused(name):
    assert decode_job(REPEATED[name]).reason is Reason.DUPLICATE_KEY


def test_outcomes_that_stand_twice_are_refused():
    value = dump(result()).replace(b'"11111": 50', b'"11111": 50, "00000": 48')
    assert decode_result(value).reason is Reason.DUPLICATE_KEY


@given(st.lists(st.sampled_from(["a", "b", "\\u0061", 'c\\"', "d"]), max_size=5), st.sampled_from([":", " :", "\n: "]))
def test_keys_of_fields_that_are_not_known_are_compared_as_they_are_read(names, colon):
    given_value = dump(event("started", reason="x"))[:-1]
    more = "".join(f',"{name}"{colon}"{name}:{name}"' for name in names)
    found = decode_job(given_value + more.encode() + b"}")
    read = [name.replace("\\u0061", "a") for name in names]
    assert (getattr(found, "reason", None) is Reason.DUPLICATE_KEY) == (len(set(read)) < len(read))
