"""Trace context: which trace a run is part of, as its producers said in the header `traceparent`.

W3C Trace Context, https://www.w3.org/TR/trace-context-1/#traceparent-header. Kept in 25 bytes: 16 of the trace, 8 of
the parent span, 1 of flags.
"""

import re
from collections.abc import Iterable
from typing import Final

from app.core.identity import outcome_id

HEADER: Final = "traceparent"
#: CloudEvents' extension for distributed tracing has it under this name.
_NAMES: Final = frozenset({HEADER, "ce_traceparent"})
#: Version ff is forbidden, and later versions begin with the same four fields.
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


def context(headers: Iterable[tuple[str, bytes | None]]) -> bytes | None:
    """The trace context in the headers of a record or request; None where there is none or it is malformed."""
    for name, text in headers:
        if name in _NAMES and text:
            found = _TRACEPARENT.match(text)
            if found and found[1] != _NO_TRACE and found[2] != _NO_SPAN:
                return bytes.fromhex((found[1] + found[2] + found[3]).decode())
    return None


def trace_id(context: bytes | None) -> str | None:
    """The trace id of a context: 32 hexadecimal digits."""
    return None if context is None else context[:16].hex()


def traceparent(context: bytes | None) -> str | None:
    """A context as it came."""
    return None if context is None else f"00-{context[:16].hex()}-{context[16:24].hex()}-{context[24:].hex()}"


def span_id(run_id: str, name: str, *cause: object) -> str:
    """The id of a span of a run, 16 hexadecimal digits: the same for whoever makes it, and after a crash again."""
    return outcome_id("span", run_id, name, *cause)[:16]


def carried(traceparent: str | None, run_id: str) -> list[tuple[str, bytes]]:
    """The header of a record that follows from a run: the trace goes on below the span of the run."""
    if traceparent is None:
        return []
    return [(HEADER, f"{traceparent[:36]}{span_id(run_id, RUN)}{traceparent[52:]}".encode())]


#: The span of a run as a whole.
RUN: Final = "run"
