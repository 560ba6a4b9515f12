"""The page of one run: its evidence, what is missing and why, what it broke, and every record about it."""

import html
import json
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from app.conventions import DECISIONS, EVIDENCE, JOBS, REPLAY_REQUESTS, RESULTS, VIOLATIONS
from app.errors import EnvironmentFault
from app.web.answers import Refused, json_answer

#: Topics that are keyed by run.
TOPICS: Final = (JOBS, RESULTS, VIOLATIONS, DECISIONS, EVIDENCE, REPLAY_REQUESTS)
#: Without a time to look at, the page looks so far back.
BACK_SECONDS: Final = 900.0
#: From a time that is given: a run may have begun so much earlier.
_BEFORE_SECONDS: Final = 120.0
_MOST_ID: Final = 256
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2430;background:#fff}
table{border-collapse:collapse;width:100%;margin:0 0 1.5rem;table-layout:fixed}th{width:16rem}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #e3e7ee;
overflow-wrap:anywhere}h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.1rem}code{font-size:.85rem}
@media(prefers-color-scheme:dark){body{color:#dfe6f0;background:#12161c}th,td{border-color:#2a313c}a{color:#8ab4ff}}
"""

#: (run id, since) -> the records about it.
Find = Callable[[str, float], Awaitable[list[dict[str, Any]]]]


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

    async def page(self, request: web.Request) -> web.Response:
        """`/runs/ID`, for people."""
        run_id, since, records = await self._found(request)
        return web.Response(text=render(run_id, since, records, self._grafana), content_type="text/html")

    async def document(self, request: web.Request) -> web.Response:
        """`/v1/runs/ID`, for programs."""
        run_id, _, records = await self._found(request)
        return json_answer({"run_id": run_id, "records": records})

    async def _found(self, request: web.Request) -> tuple[str, float, list[dict[str, Any]]]:
        run_id = request.match_info["id"]
        if len(run_id) > _MOST_ID:
            raise Refused(HTTPStatus.BAD_REQUEST, f"a run id has at most {_MOST_ID} characters")
        since = _since(request.query.get("at", ""))
        try:
            records = await self._find(run_id, since)
        except TimeoutError as error:
            detail = "reading took too long; say when the run was: ?at=SECONDS since the epoch"
            raise Refused(HTTPStatus.GATEWAY_TIMEOUT, detail) from error
        except EnvironmentFault as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        if not records:
            detail = (
                f"nothing was said of it since {time.strftime('%FT%TZ', time.gmtime(since))}; ?at=SECONDS looks back"
            )
            raise Refused(HTTPStatus.NOT_FOUND, detail)
        for record in records:
            record["topic"] = record["topic"].removeprefix(self._prefix)
        return run_id, since, records


def _since(text: str) -> float:
    """From when on; `text` is seconds or, as Grafana has it, milliseconds since the epoch."""
    now = time.time()
    try:
        at = float(text)
    except ValueError:
        return now - BACK_SECONDS
    at = at / 1000 if at > 1e11 else at
    return at - _BEFORE_SECONDS if 0 < at < now else now - BACK_SECONDS


def _clock(at: float) -> str:
    return time.strftime("%F %TZ", time.gmtime(at))


def render(run_id: str, since: float, records: list[dict[str, Any]], grafana: str) -> str:
    """The page as HTML; needs no script.

    Parameters
    ----------
    run_id, since
        The run, and from when on was looked.
    records
        About it, as `app.paging.records` finds them.
    grafana
        Where the dashboards are.
    """
    evidence = next((said for said in _values(records, EVIDENCE) if said.get("kind") == "run"), None)
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
    trace = f"{grafana.rstrip('/')}/d/qethics-debug?var-run={quote(run_id, safe='')}"
    link = f'<p><a href="{html.escape(trace)}">its trace</a></p>' if grafana else ""
    name = html.escape(run_id)
    return f"""<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>run {name}</title><style>{_STYLE}</style></head><body><h1>Run {name}</h1>{link}
<p>What was written since {_clock(since)}; <code>?at=</code> looks further back.</p>
{"".join(parts)}</body></html>"""


def _evidence(said: dict[str, Any]) -> str:
    required = set(said.get("required", ()))
    fields = [(name, value) for name, value in said["fields"].items() if value is not None]
    missing = [
        (f"{name}{' (required)' if name in required else ''}", why)
        for name, why in sorted(said["missing"].items(), key=lambda pair: (pair[0] not in required, pair[0]))
    ]
    verdict = {"allow": "no rule was broken", "deny": "a rule was broken"}.get(str(said.get("verdict")), "not judged")
    return (
        f"<p><b>{html.escape(said['closed'])}</b>; {verdict}.</p>"
        + _table("States", [(name, at) for name, at in said["steps"]])
        + _table("Illegal changes of state", [(one, f"to {other}") for one, other in said["illegal_transitions"]])
        + _table("Missing, and why", missing)
        + _table("Evidence", fields)
    )


def _table(title: str, rows: list[tuple[str, Any]]) -> str:
    if not rows:
        return ""
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(_text(value))}</td></tr>" for name, value in rows
    )
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
        except ValueError:
            continue  # it is among the records, as it is
        if isinstance(value, dict):
            values.append(value)
    return values
