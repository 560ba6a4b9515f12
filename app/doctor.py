"""`qethics doctor`: is every dependency there, reachable and configured, and what to do about what is not."""

import asyncio
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from app import kafka
from app.broker import find_binary
from app.catalog import load_catalog
from app.conventions import TOPICS, WATCHDOG_ALERT
from app.errors import EnvironmentFault, QethicsError
from app.gameday.servers import executable
from app.policy.pack import load_policy
from app.serving import seal_of
from app.settings import Settings, urls

#: The exact versions whose private methods are overridden.
_PINNED: Final = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}
_SECONDS: Final = 5.0
_MOST_BYTES: Final = 16 * 2**20
_WORKER: Final = "start `qethics worker`, or name the workers in QETHICS_WORKER_URLS"
_PAGER: Final = "start `qethics pager`, or set QETHICS_PAGER_HOST and QETHICS_PAGER_PORT to where it answers"
_ALERTMANAGER: Final = "start it, or name every Alertmanager in QETHICS_ALERTMANAGERS"
_PROMETHEUS: Final = "start it, or set QETHICS_PROMETHEUS_URL to where it answers"


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str
    #: Whether a deployment needs it; what it does not serves demo, tests and game days.
    needed: bool = True


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that a deployment needs, and at what runs of it."""
    scheme = "http" if settings.pager_cert_file is None else "https"
    pager = f"{scheme}://{settings.pager_host}:{settings.pager_port}"
    checks: dict[str, Callable[[], str]] = {
        "packages": _packages,
        "policies": lambda: _policies(settings),
        "data directory": lambda: _directory(settings),
        "kafka": lambda: _kafka(settings),
        **{f"worker {url}": partial(_ready, url, "/readyz", _WORKER) for url in urls(settings.worker_urls)},
        f"pager {pager}": partial(_ready, pager, "/readyz", _PAGER),
        **{
            f"alertmanager {url}": partial(_ready, url, "/-/ready", _ALERTMANAGER)
            for url in urls(settings.alertmanagers)
        },
        f"prometheus {settings.prometheus_url}": lambda: _prometheus(settings.prometheus_url.rstrip("/")),
    }
    tools: dict[str, Callable[[], str]] = {
        "control key": lambda: _control_key(settings),
        "embedded broker": find_binary,
        "promtool": lambda: executable("promtool"),
        "amtool": lambda: executable("amtool"),
    }
    needed = [_finding(what, check) for what, check in checks.items()]
    return needed + [_finding(what, check)._replace(needed=False) for what, check in tools.items()]


def _finding(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except QethicsError as error:
        return Finding(what, False, str(error))


def _ready(url: str, path: str, remedy: str) -> str:
    _get(url + path, remedy)
    return "ready"


def _prometheus(url: str) -> str:
    """Prometheus is there, has the rules, and has somebody to tell."""
    _get(f"{url}/-/ready", _PROMETHEUS)
    try:
        groups = json.loads(_get(f"{url}/api/v1/rules?type=alert", _PROMETHEUS))["data"]["groups"]
        rules = [rule["name"] for group in groups if group["name"].startswith("qethics") for rule in group["rules"]]
        told = json.loads(_get(f"{url}/api/v1/alertmanagers", _PROMETHEUS))["data"]["activeAlertmanagers"]
    except (ValueError, LookupError, TypeError) as error:
        raise EnvironmentFault(f"{url} is no Prometheus: its answer cannot be read", _PROMETHEUS) from error
    if WATCHDOG_ALERT not in rules:
        raise EnvironmentFault(f"{url} has none of the rules", "have it load deploy/prometheus/rules (rule_files)")
    if not told:
        raise EnvironmentFault(f"{url} tells no Alertmanager", "name one under `alerting` of its configuration")
    return f"ready, {len(rules)} alerting rules, tells {len(told)} Alertmanagers"


def _get(url: str, remedy: str) -> bytes:
    """What a page answers.

    Raises
    ------
    EnvironmentFault
        If it does not answer with 200, with what can be done about it.
    """
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            content: bytes = answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        text = error.read(200).decode(errors="replace").strip()
        raise EnvironmentFault(f"{url} answers {error.code}: {text or error.reason}", remedy) from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise EnvironmentFault(f"{url} does not answer: {getattr(error, 'reason', None) or error!r}", remedy) from error
    return content


def _packages() -> str:
    for package, wanted in _PINNED.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "missing"
        if found != wanted:
            raise QethicsError(f"{package} is {found}, {wanted} is needed", "run `make install`")
    return ", ".join(f"{package} {wanted}" for package, wanted in _PINNED.items())


def _policies(settings: Settings) -> str:
    load_catalog(settings.policies)
    policy = load_policy(settings.policies)
    return f"{len(policy.rules)} rules, revision {policy.revision}"


def _control_key(settings: Settings) -> str:
    if not seal_of(settings):
        raise EnvironmentFault(
            "control records are not sealed: whoever may write to jobs, results or samples can forge a heartbeat",
            "openssl rand -hex 32 > control.key, and set QETHICS_CONTROL_KEY_FILE for every process",
        )
    return f"control records are sealed with {settings.control_key_file}"


def _directory(settings: Settings) -> str:
    existing = settings.data_directory
    while not existing.exists():
        existing = existing.absolute().parent
    if not os.access(existing, os.W_OK):
        raise QethicsError(f"cannot write to {existing}", "set QETHICS_DATA_DIRECTORY to a writable directory")
    return str(settings.data_directory)


def _kafka(settings: Settings) -> str:
    topics = asyncio.run(kafka.list_topics(settings))
    missing = [topic for topic in map(settings.topic, TOPICS) if topic not in topics]
    if missing:
        raise QethicsError(f"{settings.bootstrap} lacks topics: {', '.join(missing)}", "run `qethics topics create`")
    return f"{settings.bootstrap}, all topics present"
