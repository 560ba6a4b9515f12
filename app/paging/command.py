"""`qethics incident`: what is open, what was done, how long it takes; asked of the pager over HTTP."""

import argparse
import getpass
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from app.core.names import one_line, url_part
from app.errors import EnvironmentFault, QethicsError
from app.serving import secret

_SECONDS: Final = 10.0
_DEFAULT: Final = "http://127.0.0.1:6068"
_ACTS: Final = {
    "acknowledge": "say that somebody looks after it",
    "mitigate": "say that it does no more harm",
    "resolve": "say that it is over",
    "note": "write something down",
}


class Unanswered(QethicsError):
    """The pager refused what it was asked."""

    whose = "the pager"


def add_commands(commands: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `incident` and its commands.

    Parameters
    ----------
    commands
        Of the parser.
    command
        Adds one: (commands, name, run, text).
    """
    incident = commands.add_parser("incident", help="incidents: list, show, acknowledge, mitigate, resolve, stats")
    of = incident.add_subparsers(required=True, metavar="WHAT")
    listed = command(of, "list", _list, "the incidents, the newest first")
    listed.add_argument("--open", action="store_true", help="only those that are not resolved")
    shown = command(of, "show", _show, "everything that is known of an incident")
    shown.add_argument("id", help="of the incident")
    stats = command(of, "stats", _stats, "how long incidents take: n, mean, median, p90 and the median's interval")
    made = [listed, shown, stats]
    for name, text in _ACTS.items():
        done = command(of, name, _act, text)
        done.add_argument("id", help="of the incident")
        done.add_argument("--by", default=None, help="who does it (default: you)")
        done.add_argument("--text", default="", help="what is to be known about it")
        done.set_defaults(act=name)
        made.append(done)
    for each in made:
        each.add_argument("--pager", default=_DEFAULT, metavar="URL", help=f"of the pager (default {_DEFAULT})")
        each.add_argument("--token-file", type=Path, help="what it asks for as a bearer token")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def _list(options: argparse.Namespace) -> int:
    found = _ask(options, "/v1/incidents" + ("?open=1" if options.open else ""))
    lines = [f"{'id':16}  {'severity':8}  {'phase':12}  {'began':20}  alert"]
    for each in found["incidents"]:
        one = each["incident"]
        labels = {k: v for k, v in one["labels"].items() if k not in {"alertname", "severity"}}
        about = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
        began = _instant(one["started_at"])
        lines.append(
            f"{one['incident_id']:16}  {one['severity']:8}  {each['phase']:12}  {began:20}  {one['alertname']} {about}"
        )
    return _say(options, found, lines)


def _show(options: argparse.Namespace) -> int:
    return _say_one(options, _ask(options, f"/v1/incidents/{url_part(options.id)}"))


def _act(options: argparse.Namespace) -> int:
    by = options.by or getpass.getuser()
    path = f"/v1/incidents/{url_part(options.id)}/{options.act}"
    return _say_one(options, _ask(options, path, {"by": by, "text": options.text}))


def _stats(options: argparse.Namespace) -> int:
    found = _ask(options, "/v1/mttr")
    lines = [f"{'severity':8}  {'phase':12}  {'n':>5}  {'mean':>9}  {'median':>9}  {'95 % of median':>21}  {'p90':>9}"]
    for severity, of in found["seconds"].items():
        for phase, row in of.items():
            interval = f"{_took(row['low'])} - {_took(row['high'])}" if row["n"] else "-"
            lines.append(
                f"{severity:8}  {phase:12}  {row['n']:>5}  {_took(row['mean']):>9}  {_took(row['median']):>9}  "
                f"{interval:>21}  {_took(row['p90']):>9}"
            )
    return _say(options, found, [*lines, f"{found['reopened']} of them opened again within an hour"])


def _say_one(options: argparse.Namespace, found: Any) -> int:
    one = found["incident"]
    lines = [
        f"{one['incident_id']}: {one['alertname']} ({one['severity']}), {found['phase']}",
        one["annotations"].get("summary", ""),
        *(f"  {name}: {value}" for name, value in sorted(one["labels"].items())),
        f"  runbook: {one['annotations'].get('runbook_url', '-')}",
        f"  runs: {one['annotations'].get('runs', '-')}",
        f"  evidence: {one['evidence'] or 'not captured'}",
        *(f"  {phase}: {_took(seconds)}" for phase, seconds in found["took_seconds"].items()),
        *(f"  {note}" for note in one["notes"]),
    ]
    return _say(options, found, lines)


def _say(options: argparse.Namespace, found: Any, lines: list[str]) -> int:
    print(json.dumps(found) if options.json else "\n".join(map(one_line, lines)))
    return 0


def _ask(options: argparse.Namespace, path: str, body: dict[str, str] | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    token = secret(options.token_file, "token-file")
    if token is not None:
        headers["Authorization"] = f"Bearer {token.decode()}"
    if not options.pager.startswith(("http://", "https://")):
        raise EnvironmentFault(f"{options.pager} is no URL", "write e.g. --pager http://127.0.0.1:6068")
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(options.pager.rstrip("/") + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        detail = _detail(error)
        raise Unanswered(f"{error.code}: {detail}", "`qethics incident list` shows what there is") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise EnvironmentFault(
            f"no pager at {options.pager}: {error}", "start `qethics pager`, or give --pager"
        ) from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return error.reason


def _instant(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _took(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
