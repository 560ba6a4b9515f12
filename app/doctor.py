"""`qethics doctor`: is every dependency there, reachable and configured, and what to do about what is not."""

import asyncio
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from app import kafka
from app.broker import find_binary
from app.catalog import load_catalog
from app.conventions import TOPICS
from app.errors import QethicsError
from app.policy.pack import load_policy
from app.settings import Settings

#: The exact versions whose private methods are overridden.
_PINNED: Final = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything a worker needs."""
    checks: dict[str, Callable[[], str]] = {
        "packages": _packages,
        "policies": lambda: _policies(settings),
        "data directory": lambda: _directory(settings),
        "embedded broker": find_binary,
        "kafka": lambda: _kafka(settings),
    }
    return [_finding(what, check) for what, check in checks.items()]


def _finding(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except QethicsError as error:
        return Finding(what, False, str(error))


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
