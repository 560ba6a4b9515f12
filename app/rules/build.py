"""The files that Prometheus reads, made of the objectives: written, or compared with what is there."""

from pathlib import Path
from typing import Any, Final

import yaml

from app.errors import SettingError
from app.paging.http import RUNBOOKS as BOOKS
from app.rules import promtests
from app.rules.files import RUNBOOKS, Slos
from app.rules.prometheus import rules

_HEAD: Final = "# Made by `qethics rules build` of {source}; do not edit.\n"
_RULES: Final = Path("rules/slo")
_TESTS: Final = Path("tests/slo")


def files(slos: Slos, source: str) -> dict[Path, str]:
    """Path (below the output directory) -> content.

    Parameters
    ----------
    slos
        The objectives.
    source
        The name of their file.
    """
    found: dict[Path, str] = {}
    for each in slos.slos:
        rule_file = f"../../{_RULES}/{each.name}.yaml"
        found[_RULES / f"{each.name}.yaml"] = _text(rules(each, slos), source)
        for name, of in (("fast", promtests.fast), ("slow", promtests.slow)):
            document = of(each, rule_file)
            if document["tests"]:
                found[_TESTS / f"{each.name}.{name}.yaml"] = _text(document, source)
    return found


def write(content: dict[Path, str], directory: Path, *, remove: bool) -> list[str]:
    """Write the files, remove those that are no longer made, and return what changed.

    Parameters
    ----------
    content
        What `files` made.
    directory
        Where.
    remove
        Whether files of objectives that are no longer there may be removed.

    Raises
    ------
    SettingError
        If some would have to be, and may not.
    OSError
        If it cannot be written there.
    """
    gone = sorted({path.name.split(".")[0] for path in _others(content, directory)})
    if gone and not remove:
        raise SettingError(
            f"rules of {', '.join(gone)} would be removed from {directory}, as their objectives are not in the file",
            "add --remove if that is meant, or write to another --directory",
        )
    changed = stale(content, directory)
    for path, text in content.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for path in _others(content, directory):
        path.unlink()
    return changed


def stale(content: dict[Path, str], directory: Path) -> list[str]:
    """The files that are not what would be made, or no longer would be."""
    found = []
    for path, text in content.items():
        target = directory / path
        if not target.is_file() or target.read_text() != text:
            found.append(str(target))
    return found + [str(path) for path in _others(content, directory)]


def without_runbook(slos: Slos) -> list[str]:
    """Alerts of objectives that the pager, where they say that it serves their runbooks, has none of."""
    if slos.runbooks != RUNBOOKS:
        return []
    return sorted(each.alert for each in slos.slos if not (BOOKS / f"{each.alert}.md").is_file())


def _others(content: dict[Path, str], directory: Path) -> list[Path]:
    made = {directory / path for path in content}
    return sorted(
        path for folder in (_RULES, _TESTS) for path in (directory / folder).glob("*.yaml") if path not in made
    )


def _text(document: dict[str, Any], source: str) -> str:
    return _HEAD.format(source=source) + yaml.safe_dump(document, sort_keys=False, width=100_000, allow_unicode=True)
