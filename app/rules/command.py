"""`qethics rules`: objectives into Prometheus rules, and the check of everything that pages."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from app.catalog import DEFAULT_DIRECTORY
from app.conventions import EXIT_FAILED
from app.errors import EnvironmentFault

_DEPLOY: Final = DEFAULT_DIRECTORY.parent / "deploy"


def add_commands(commands: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `rules` and its commands.

    Parameters
    ----------
    commands
        Of the parser.
    command
        Adds one: (commands, name, run, text).
    """
    rules = commands.add_parser("rules", help="objectives into Prometheus rules").add_subparsers(required=True)
    build = command(rules, "build", _build, "write recording and alerting rules of the objectives, and their tests")
    check = command(rules, "check", _check, "are the rules current, and what promtool and amtool say of them")
    build.add_argument("--remove", action="store_true", help="rules of objectives that are no longer there")
    for each in (build, check):
        each.add_argument("--slos", type=Path, default=DEFAULT_DIRECTORY / "slos.yaml", help="slos.yaml or OpenSLO v1")
        each.add_argument("--directory", type=Path, default=_DEPLOY, help="of prometheus/ and alertmanager/")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def _build(options: argparse.Namespace) -> int:
    from app.rules import build, files

    slos = files.load(options.slos)
    try:
        content = build.files(slos, options.slos.name)
        changed = build.write(content, options.directory / "prometheus", remove=options.remove)
    except OSError as error:
        raise EnvironmentFault(
            f"{error.filename}: {error.strerror}", "name a directory that can be written to"
        ) from error
    unwritten = build.without_runbook(slos)
    if options.json:
        names = [each.name for each in slos.slos]
        print(json.dumps({"slos": names, "changed": changed, "without_runbook": unwritten}))
        return 0
    print(f"{len(slos.slos)} objectives; {len(changed)} files changed")
    for path in changed:
        print(f"  {path}" + ("" if Path(path).exists() else " (removed)"))
    for name in unwritten:
        print(f"  there is no docs/runbooks/{name}.md: the alert's link to {slos.runbooks} leads nowhere")
    return 0


def _check(options: argparse.Namespace) -> int:
    from app.rules import build, files
    from app.rules.check import Checked, check

    slos = files.load(options.slos)
    stale = build.stale(build.files(slos, options.slos.name), options.directory / "prometheus")
    text = "run `qethics rules build`: " + ", ".join(stale) if stale else f"{len(slos.slos)} objectives"
    found = [Checked("rules are those of the objectives", not stale, text), *check(options.directory)]
    if options.json:
        print(json.dumps({"checks": [each._asdict() for each in found]}))
    else:
        marks = {True: "ok  ", False: "FAIL", None: "skip"}
        for each in found:
            print(f"{marks[each.ok]} {each.what}: {each.detail}")
    return EXIT_FAILED if any(each.ok is False for each in found) else 0
