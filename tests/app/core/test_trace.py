import pytest

from app.core import trace

#: The example of the specification.
GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MALFORMED = [
    b"",
    b"00-zz-1",
    GOOD[:-1],
    GOOD.upper(),
    b"ff" + GOOD[2:],
    b"00-" + b"0" * 32 + GOOD[35:],
    GOOD[:36] + b"0" * 16 + GOOD[52:],
    GOOD + b"\n",
]


@pytest.mark.parametrize("name", ["traceparent", "ce_traceparent"])
def test_a_context_is_kept_as_it_came_in_25_bytes(name):
    found = trace.context([("other", b"x"), (name, GOOD)])
    assert len(found) == 25
    assert trace.trace_id(found) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace.traceparent(found) == GOOD.decode()


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_malformed_is_no_context(text):
    assert trace.context([("traceparent", text)]) is None


def test_without_a_context_there_is_nothing_to_say():
    assert trace.context([]) is None
    assert trace.trace_id(None) is None
    assert trace.traceparent(None) is None
    assert trace.carried(None, "run-1") == []


def test_what_follows_from_a_run_goes_on_below_the_span_of_the_run():
    ((name, text),) = trace.carried(GOOD.decode(), "run-1")
    assert name == "traceparent"
    assert text == f"00-4bf92f3577b34da6a3ce929d0e0e4736-{trace.span_id('run-1', trace.RUN)}-01".encode()
    assert trace.context([(name, text)]) is not None
