"""Tests of rules, written in Rego beside them: `test_*` rules of `*_test.rego`, and what they covered.

A test passes when it is true. Undefined and anything else is a failure; an error of the engine is an error, told apart.
`todo_*` is skipped and counted. As `opa test` does it (openpolicyagent.org, "Policy Testing").
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from app.core.evaluating import PolicyError
from app.policy import syntax
from app.policy.inline import Inline

#: The least share of a pack's lines that its tests must reach.
LEAST_COVERAGE: Final = 0.95
_TEST: Final = re.compile(r"^(test_\w+|todo_\w+)", re.MULTILINE)
_PACKAGE: Final = re.compile(r"^package ([\w.]+)$", re.MULTILINE)
_DENY: Final = re.compile(r"^deny contains ")


class Result(Struct, frozen=True):
    """What came of one test: pass, fail, error or skip."""

    name: str
    module: str
    status: str
    detail: str = ""


class Clause(Struct, frozen=True):
    """A way in which a rule denies, and whether tests saw it deny and not deny."""

    module: str
    line: int
    fired: bool
    quiet: bool


class Report(Struct, frozen=True):
    """What came of all tests."""

    results: list[Result]
    clauses: list[Clause]
    #: Module -> lines that no test reached.
    uncovered: dict[str, list[int]] = field(default_factory=dict)
    coverage: float = 0.0

    @property
    def test_failures(self) -> list[str]:
        """Tests that did not pass, or that there was none: a filter with a slip in it must not look like success."""
        bad = [each for each in self.results if each.status in {"fail", "error"}]
        found = [f"{each.module}: {each.name}: {each.status}: {each.detail}" for each in bad]
        if not any(each.status != "skip" for each in self.results):
            found.append("no test was run")
        return found

    @property
    def failures(self) -> list[str]:
        """Why the pack does not pass; nothing if it does."""
        found = self.test_failures
        for clause in self.clauses:
            missing = [text for seen, text in ((clause.fired, "deny"), (clause.quiet, "not deny")) if not seen]
            if missing:
                found.append(f"{clause.module}:{clause.line}: no test sees it {' or '.join(missing)}")
        if self.coverage < LEAST_COVERAGE:
            found.append(f"{self.coverage:.1%} of the lines are covered, {LEAST_COVERAGE:.0%} are asked for")
        return found


def run(modules: Mapping[str, str], data: Mapping[str, Any], tests: Mapping[str, str], *, only: str = "") -> Report:
    """Run the tests of a pack.

    Parameters
    ----------
    modules
        File name -> Rego source of the rules.
    data
        The document the rules see as `data`.
    tests
        File name -> Rego source of the tests.
    only
        A regular expression that the full name of a test must contain.

    Raises
    ------
    PolicyError
        If a module does not parse.
    """
    engine = Inline({**modules, **tests}, data)
    engine.engine.set_enable_coverage(True)
    lines = _Lines(modules)
    results = []
    for module, source in sorted(tests.items()):
        package = _PACKAGE.search(source)
        for name in dict.fromkeys(_TEST.findall(source)):
            path = f"data.{package[1] if package else ''}.{name}"
            if re.search(only, path) is None:
                continue
            engine.engine.clear_coverage_data()
            results.append(_result(engine, module, path))
            lines.add(json.loads(engine.engine.get_coverage_report_as_json())["files"])
    return Report(results, lines.clauses(), lines.uncovered(), lines.share())


def _result(engine: Inline, module: str, path: str) -> Result:
    name = path.removeprefix("data.")
    if path.rpartition(".")[2].startswith("todo_"):
        return Result(name, module, "skip")
    try:
        value = engine.ask(path, b"{}")
    except PolicyError as error:
        return Result(name, module, "error", " ".join(str(error).split())[:300])
    return Result(name, module, "pass") if value == b"true" else Result(name, module, "fail", f"it is {value.decode()}")


class _Lines:
    """Which lines of which module tests reached, over all of them."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._sources = {name: source.split("\n") for name, source in modules.items()}
        self._covered: dict[str, set[int]] = {name: set() for name in modules}
        # The engine lists the lines of what it came by; what it never came by is found in its syntax tree.
        self._all = {name: syntax.lines(name, source) for name, source in modules.items()}
        self._fired: set[tuple[str, int]] = set()
        self._quiet: set[tuple[str, int]] = set()

    def add(self, files: list[dict[str, Any]]) -> None:
        for found in files:
            name, covered = found["path"], set(found["covered"])
            if name not in self._sources:
                continue
            self._covered[name] |= covered
            self._all[name] |= covered | set(found["not_covered"])
            for line in self._denials(name):
                # The head is reached when the whole body held; the first line of the body whenever it was tried.
                if line in covered:
                    self._fired.add((name, line))
                elif line + 1 in covered:
                    self._quiet.add((name, line))

    def _denials(self, name: str) -> list[int]:
        return [number for number, text in enumerate(self._sources[name], 1) if _DENY.match(text)]

    def clauses(self) -> list[Clause]:
        return [
            Clause(name, line, (name, line) in self._fired, (name, line) in self._quiet)
            for name in self._sources
            for line in self._denials(name)
        ]

    def uncovered(self) -> dict[str, list[int]]:
        found = {name: sorted(self._all[name] - covered) for name, covered in self._covered.items()}
        return {name: lines for name, lines in found.items() if lines}

    def share(self) -> float:
        total = sum(map(len, self._all.values()))
        return sum(map(len, self._covered.values())) / total if total else 0.0
