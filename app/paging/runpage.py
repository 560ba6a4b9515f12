"""The page of one run: its evidence, what is missing and why, what it broke, and every record about it."""

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from app.conventions import DECISIONS, EVIDENCE, JOBS, REPLAY_REQUESTS, RESULTS, VIOLATIONS
from app.core.names import markup, url_part
from app.errors import EnvironmentFault
from app.paging.records import Records
from app.web.answers import json_answer
from app.web.refusals import Refused

#: Topics that are keyed by run.
TOPICS: Final = (JOBS, RESULTS, VIOLATIONS, DECISIONS, EVIDENCE, REPLAY_REQUESTS)
#: Without a time to look at, the page looks so far back.
BACK_SECONDS: Final = 900.0
#: About a time that is given: a run may have begun so much earlier, and go on for so long.
_BEFORE_SECONDS: Final = 120.0
_AFTER_SECONDS: Final = 3_600.0
#: Pages that are read at once: each reads a part of a log, in the process that pages people.
_AT_ONCE: Final = 2
_MOST_ID: Final = 256
_WHEN: Final = "?at=SECONDS since the epoch says when the run was"
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2430;background:#fff}
table{border-collapse:collapse;width:100%;margin:0 0 1.5rem;table-layout:fixed}th{width:16rem}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #e3e7ee;
overflow-wrap:anywhere}h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.1rem}code{font-size:.85rem}
@media(prefers-color-scheme:dark){body{color:#dfe6f0;background:#12161c}th,td{border-color:#2a313c}a{color:#8ab4ff}}
"""

#: (run id, since, until) -> the records about it.
Find = Callable[[str, float, float], Awaitable[Records]]


class RunPages:
    """The run as a page and as JSON.

    Parameters
    ----------
    find
        Reads the topics.
    grafana
        Where the dashboards are; empty if nobody knows.
    prefix
        What names of topics begin with.
    """

    def __init__(self, find: Find, grafana: str, prefix: str) -> None:
        self._find = find
        self._grafana = grafana
        self._prefix = prefix
        self._reading = 0

    async def page(self, request: web.Request) -> web.Response:
        """`/runs/ID`, for people."""
        run_id, span, found = await self._found(request)
        return web.Response(text=render(run_id, span, found, self._grafana), content_type="text/html")

    async def document(self, request: web.Request) -> web.Response:
        """`/v1/runs/ID`, for programs."""
        run_id, _, found = await self._found(request)
        return json_answer({"run_id": run_id, **msgspec.structs.asdict(found)})

    async def _found(self, request: web.Request) -> tuple[str, tuple[float, float], Records]:
        run_id = request.match_info["id"]
        if len(run_id) > _MOST_ID:
            raise Refused(HTTPStatus.BAD_REQUEST, f"a run id has at most {_MOST_ID} characters")
        since, until = _span(request.query.get("at", ""))
        if self._reading >= _AT_ONCE:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "other runs are being read", {"Retry-After": "5"})
        self._reading += 1
        try:
            found = await self._find(run_id, since, until)
        except EnvironmentFault as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        finally:
            self._reading -= 1
        if not found.records:
            between = f"between {_clock(since)} and {_clock(until)}"
            if not found.is_whole:
                raise Refused(HTTPStatus.GATEWAY_TIMEOUT, f"too much was written {between} to read in time; {_WHEN}")
            raise Refused(HTTPStatus.NOT_FOUND, f"nothing was said of it {between}; {_WHEN}")
        for record in found.records:
            record["topic"] = record["topic"].removeprefix(self._prefix)
        return run_id, (since, until), found


def _span(text: str) -> tuple[float, float]:
    """From when until when; `text` is seconds or, as Grafana has it, milliseconds since the epoch, or empty: lately."""
    now = time.time()
    if not text:
        return now - BACK_SECONDS, now
    try:
        at = float(text)
    except ValueError:
        at = 0.0
    at = at / 1000 if at > 1e11 else at
    if not 0 < at <= now + _BEFORE_SECONDS:
        raise Refused(HTTPStatus.BAD_REQUEST, f"at={text[:40]} is no time that has been; {_WHEN}")
    return at - _BEFORE_SECONDS, at + _AFTER_SECONDS


def _clock(at: float) -> str:
    return time.strftime("%F %TZ", time.gmtime(at))


def render(run_id: str, span: tuple[float, float], found: Records, grafana: str) -> str:
    """The page as HTML; needs no script.

    Parameters
    ----------
    run_id, span
        The run, and from when until when was looked.
    found
        About it, as `app.paging.records` finds it.
    grafana
        Where the dashboards are.
    """
    records = found.records
    evidence = _closed(records)
    parts = [_evidence(evidence)] if evidence is not None else ["<p>It is not closed: there is no evidence yet.</p>"]
    broken = [
        (f"{said.get('rule')} ({said.get('severity')}, {said.get('mode')})", said.get("reason"))
        for said in _values(records, VIOLATIONS)
    ]
    parts.append(_table("Rules it broke", broken))
    rows = [
        (f"{record['at']} {record['topic']}", record["value"]) for record in sorted(records, key=lambda one: one["at"])
    ]
    parts.append(_table("Records", rows))
    trace = f"{grafana.rstrip('/')}/d/qethics-debug?var-run={url_part(run_id)}"
    link = f'<p><a href="{markup(trace)}">its trace</a></p>' if grafana else ""
    name = markup(run_id)
    lacking = "".join(
        f"<p><b>{text}</b></p>"
        for is_so, text in (
            (found.left_out, f"{found.left_out} more records are left out: there are too many to show."),
            (not found.is_whole, "There was more to read than there was time for: this may not be all."),
        )
        if is_so
    )
    return f"""<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>run {name}</title><style>{_STYLE}</style></head><body><h1>Run {name}</h1>{link}
<p>What was written between {_clock(span[0])} and {_clock(span[1])}; {markup(_WHEN)}.</p>{lacking}
{"".join(parts)}</body></html>"""


class _Closed(Struct):
    """What is shown of a record of evidence."""

    kind: Literal["run"]
    closed: str
    fields: dict[str, Any]
    missing: dict[str, str]
    steps: list[tuple[str, str]]
    illegal_transitions: list[tuple[str, str]]
    required: tuple[str, ...] = ()
    verdict: str | None = None


def _closed(records: list[dict[str, Any]]) -> _Closed | None:
    """The evidence among the records. What somebody else wrote into the topic is none, and stands among the records."""
    for said in _values(records, EVIDENCE):
        with suppress(msgspec.ValidationError):
            return msgspec.convert(said, _Closed)
    return None


def _evidence(said: _Closed) -> str:
    required = set(said.required)
    fields = [(name, value) for name, value in said.fields.items() if value is not None]
    missing = [
        (f"{name}{' (required)' if name in required else ''}", why)
        for name, why in sorted(said.missing.items(), key=lambda pair: (pair[0] not in required, pair[0]))
    ]
    verdict = {"allow": "no rule was broken", "deny": "a rule was broken"}.get(str(said.verdict), "not judged")
    return (
        f"<p><b>{markup(said.closed)}</b>; {verdict}.</p>"
        + _table("States", [(name, at) for name, at in said.steps])
        + _table("Illegal changes of state", [(one, f"to {other}") for one, other in said.illegal_transitions])
        + _table("Missing, and why", missing)
        + _table("Evidence", fields)
    )


def _table(title: str, rows: list[tuple[str, Any]]) -> str:
    if not rows:
        return ""
    cells = "".join(f"<tr><th>{markup(name)}</th><td>{markup(_text(value))}</td></tr>" for name, value in rows)
    return f"<h2>{title}</h2><table>{cells}</table>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _values(records: list[dict[str, Any]], topic: str) -> list[dict[str, Any]]:
    """The JSON objects of a topic, each once: what a crash repeated has the same bytes."""
    found = dict.fromkeys(record["value"] for record in records if record["topic"] == topic)
    values = []
    for text in found:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue  # it is among the records, as it is
        if isinstance(value, dict):
            values.append(value)
    return values
