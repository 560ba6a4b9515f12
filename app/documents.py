"""YAML files that people write, read into typed values, or an error with file, line and key."""

import re
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from app.errors import SettingError

T = TypeVar("T")

#: No file that people write is larger; aliases in YAML can make a small one grow without end.
MOST_BYTES: Final = 4 * 1024 * 1024
_MOST_NODES: Final = 200_000
_PLACE: Final = re.compile(r"`\$([^`]*)`$")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")

Keys = tuple[str | int, ...]


def read(path: Path, kind: type[T]) -> T:
    """A file as a value of a type.

    Raises
    ------
    SettingError
        If it cannot be read or says something else than the type; the error names file, line and key.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise unusable(path, "", getattr(error, "strerror", None) or str(error)) from error
    return parse(path, text, kind)


def parse(path: Path, text: str, kind: type[T], *, first_line: int = 1) -> T:
    """As `read`, of a text that stands in a file from `first_line` on."""
    try:
        if len(text) > MOST_BYTES:
            raise unusable(path, "", f"more than {MOST_BYTES} characters")
        # Not the loader in C: it recurses on its stack, so that a file of brackets ends the process.
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        _check_nodes(path, root, first_line)
        document: Any = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + first_line if error.problem_mark is not None else None
        raise unusable(path, "", " ".join(str(error.problem or error).split()), line=line) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise unusable(path, "", " ".join(str(error).split())[:200]) from error
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        what, _, _ = str(error).partition(" - at ")
        keys = _culprit(document, kind)
        line = _line(root, keys) + first_line
        raise unusable(path, _dotted(keys), what, line=line) from error


def unusable(path: Path, key: str, why: str, *, line: int | None = None) -> SettingError:
    """The error that a file cannot be used."""
    place = f"{path}:{line}" if line is not None else str(path)
    return SettingError(f"{place}: {key}: {why}" if key else f"{place}: {why}", _REMEDY)


_REMEDY: Final = "correct the file, or point QETHICS_POLICIES at another directory"


def line_of(path: Path, *keys: str | int) -> int | None:
    """The line that a key stands in; None if the file is none that can be read."""
    try:
        return _line(yaml.compose(path.read_text(), Loader=yaml.SafeLoader), keys) + 1
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _check_nodes(path: Path, root: Any, first_line: int) -> None:
    """Refuse a key that is there twice, of which YAML would silently take the last, and aliases without end."""
    waiting, seen = [root], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > _MOST_NODES:
            raise unusable(path, "", f"more than {_MOST_NODES} values")
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                if key.value in names:
                    raise unusable(path, str(key.value), "is there twice", line=key.start_mark.line + first_line)
                names.add(key.value)
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _culprit(document: Any, kind: Any) -> Keys:
    """The keys to what is wrong.

    msgspec says `[...]` for any key of a mapping; which one it is shows when the others are left out.
    """
    steps = _steps(document, kind)
    keys: list[str | int] = []
    here = document
    for index, step in enumerate(steps):
        if step == "...":
            if not isinstance(here, dict):
                break
            found = next((key for key in here if _still(document, kind, tuple(keys), key, steps[: index + 1])), None)
            if found is None:
                break
            keys.append(found)
            here = here[found]
        else:
            key = int(step) if isinstance(here, list) and step.isdigit() else step
            keys.append(key)
            try:
                here = here[key]
            except (KeyError, IndexError, TypeError):
                break
    return tuple(keys)


def _still(document: Any, kind: Any, keys: Keys, key: Any, steps: list[str]) -> bool:
    """Whether the error stays when of the mapping at `keys` only `key` is left."""
    return _steps(_only(document, keys, key), kind)[: len(steps)] == steps


def _steps(document: Any, kind: Any) -> list[str]:
    """The way msgspec says to what is wrong; `...` stands for any key. Nothing if nothing is wrong."""
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        return [found[1] or found[2] for found in _STEP.finditer(place[1])] if place is not None else []
    return []


def _only(document: Any, keys: Keys, key: Any) -> Any:
    if not keys:
        return {key: document[key]}
    first, *rest = keys
    copied = document.copy()
    copied[first] = _only(document[first], tuple(rest), key)
    return copied


def _line(node: Any, keys: Keys) -> int:
    """The line, from 0, of the deepest of `keys` that is there."""
    line = node.start_mark.line if node is not None else 0
    for step in keys:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step], node.value[step]
        if found is None:
            break
        line, node = found[0].start_mark.line, found[1]
    return int(line)


def _dotted(keys: Keys) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
