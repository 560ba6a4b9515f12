"""The worker's own pages: status, metrics, health. Read only; bound to loopback unless told otherwise."""

import json
from collections.abc import Callable, Collection
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from app.core.names import markup
from app.web.answers import healthz, metrics_page, middlewares

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1c2430;background:#fff}
table{border-collapse:collapse;width:100%;margin:0 0 1.5rem}
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #e3e7ee}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}h1{font-size:1.4rem}h2{font-size:1.1rem}
@media(prefers-color-scheme:dark){body{color:#dfe6f0;background:#12161c}th,td{border-color:#2a313c}a{color:#8ab4ff}}
"""
_FIGURES: Final = (
    ("events_applied", "events applied"),
    ("duplicates", "duplicates set aside"),
    ("dead_letters", "dead letters"),
    ("late", "late events"),
    ("events_lost", "events lost (gaps)"),
    ("lag", "lag (records)"),
    ("open_runs", "open runs"),
    ("violations", "policy violations"),
    ("drift_alerts", "drift alerts"),
    ("last_checkpoint_seconds_ago", "oldest last checkpoint (seconds ago)"),
    ("records_deleted_unread", "records Kafka deleted unread"),
    ("control_records_sealed", "control records are sealed with a key"),
    ("logs_began_anew", "logs that began anew"),
    ("records_set_aside", "records set aside"),
)


def application(
    registry: CollectorRegistry,
    status: Callable[[], dict[str, Any]],
    names: Callable[[], dict[str, str]],
    detectors: Callable[[], list[dict[str, Any]]],
    token: bytes | None = None,
    hosts: Collection[str] = (),
) -> web.Application:
    """The pages of one worker.

    Parameters
    ----------
    registry
        What `/metrics` shows.
    status
        What the status page shows.
    names
        Indicator -> its text.
    detectors
        The state of every detector.
    token
        What a request must carry as a bearer token (RFC 6750), if anything.
    hosts
        Names of the worker, beside those of loopback and its address.
    """

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=render(status(), names()), content_type="text/html")

    async def status_json(request: web.Request) -> web.Response:
        return web.json_response(status(), dumps=lambda value: json.dumps(value, allow_nan=False))

    async def detectors_json(request: web.Request) -> web.Response:
        return web.json_response(detectors(), dumps=lambda value: json.dumps(value, allow_nan=False))

    async def readyz(request: web.Request) -> web.Response:
        found = status()
        if found["complaints"]:
            return web.Response(text="".join(f"{complaint}\n" for complaint in found["complaints"]), status=503)
        if found["ready"]:
            return web.Response(text="ready\n")
        return web.Response(text="no partitions restored yet\n", status=503)

    app = web.Application(client_max_size=64 * 1024, middlewares=middlewares(token, hosts))
    app.add_routes(
        [
            web.get("/", page),
            web.get("/status.json", status_json),
            web.get("/detectors.json", detectors_json),
            web.get("/metrics", metrics_page(registry)),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    return app


def render(status: dict[str, Any], names: dict[str, str]) -> str:
    """The status page as HTML; needs no script."""
    figures = "".join(f"<tr><td>{text}</td><td class=n>{_number(status[key])}</td></tr>" for key, text in _FIGURES)
    slis = "".join(
        f"<tr><td>{sli}</td><td>{markup(names[sli])}</td><td class=n>{_number(row['good'])}</td>"
        f"<td class=n>{_number(row['valid'])}</td><td class=n>{_ratio(row)}</td></tr>"
        for sli, row in status["sli"].items()
    )
    fidelity = "".join(
        f"<tr><td>{markup(row['workload'])}</td><td>{markup(row['backend'])}</td>"
        f"<td class=n>{row['n']}</td><td class=n>{row['mean']:.4f}</td>"
        f"<td class=n>{_number(row['standard_error'])}</td></tr>"
        for row in status["fidelity"]
    )
    build = ", ".join(f"{markup(name)} {markup(value)}" for name, value in status["build"].items())
    age = status["event_to_metric_seconds"]
    return f"""<!doctype html><html lang=en><head><meta charset=utf-8><meta http-equiv=refresh content=5>
<meta name=viewport content="width=device-width"><title>qethics worker</title><style>{_STYLE}</style></head><body>
<h1>qethics worker: {"ready" if status["ready"] else "waiting for partitions"}</h1>
<p>Partitions {", ".join(map(str, status["partitions"])) or "none"} · event to metric p50 {_number(age["p50"])} s,
p99 {_number(age["p99"])} s · <a href="/metrics">metrics</a> · <a href="/status.json">JSON</a></p>
<h2>Indicators</h2><table><tr><th>SLI</th><th>good means</th><th class=n>good</th><th class=n>valid</th>
<th class=n>ratio</th></tr>{slis}</table>
<h2>Totals</h2><table>{figures}</table>
<h2>Fidelity</h2><table><tr><th>workload</th><th>backend</th><th class=n>n</th><th class=n>mean</th>
<th class=n>standard error</th></tr>{fidelity}</table>
<p>{build}</p></body></html>"""


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.4%}" if row["ratio"] is not None else markup(row["reason"])
