"""What is wrong with rules although they parse: what makes a verdict depend on more than its input, or never come.

The checks read the engine's own syntax tree. To add one, write a function of a `_Module` that yields findings, and name
it in `_CHECKS`.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from app.core.evaluating import PolicyError
from app.core.facts import JUDGING, Document
from app.core.policy import Pack
from app.errors import SettingError
from app.policy import forms, syntax
from app.policy.evaluator import Evaluator
from app.policy.pack import TEST_SUFFIX, declared_rule, is_test

#: Builtins whose cost no limit on the input bounds in sight of a reader, or that write somewhere.
_UNBOUNDED: Final = frozenset({"walk", "graph.reachable", "graph.reachable_paths", "numbers.range", "print", "trace"})
_MOST_LOOPS: Final = 3
#: The longest that a rule may take over the heaviest document: a third of what all of them are given.
HEAVIEST_SECONDS: Final = 0.05
_MOST_TRIES: Final = 10
#: Below what has an engine rest; one may be the machine's, as the first question is asked of a process that just began.
_MOST_FAULTS: Final = 2
_WILDCARDS: Final = frozenset({"_", "$"})


class Finding(Struct, frozen=True):
    """Something wrong: which check says so, where, and what to do."""

    check: str
    file: str
    line: int
    text: str


class _Module(NamedTuple):
    name: str
    path: Path
    source: str
    package: str
    #: Name -> full path of what it stands for.
    imports: Mapping[str, str]
    rules: list[Any]
    data: Mapping[str, Any]
    #: Full paths that any module of the pack reads.
    read: frozenset[str]
    #: Its syntax tree, and those of all modules.
    tree: Any
    trees: Sequence[Any]


def lint(directory: Path, modules: Mapping[str, str], data: Mapping[str, Any]) -> list[Finding]:
    """Check the modules of a policy directory, those that test included.

    Parameters
    ----------
    directory
        Where `rules/` is, for the names in findings and for runbooks.
    modules
        File name -> Rego source.
    data
        The document the rules see as `data`.

    Returns
    -------
    Findings by file and line; none if all is well.
    """
    parsed, findings = [], []
    for name, source in sorted(modules.items()):
        path = directory / "rules" / name
        try:
            parsed.append((name, path, source, syntax.tree(name, source)))
        except PolicyError as error:
            line = re.search(rf"{re.escape(name)}:(\d+)", str(error))
            text = str(error).strip().rpartition("error:")[2].strip()
            findings.append(Finding("parse", str(path), int(line[1]) if line else 1, text))
    trees = [tree for *_, tree in parsed]
    read = frozenset(each for tree in trees for each in syntax.reads(tree))
    for name, path, source, tree in parsed:
        package = syntax.path(tree["package"]["refr"]) or ""
        module = _Module(name, path, source, package, syntax.imports(tree), tree["rules"], data, read, tree, trees)
        checks = _CHECKS if not is_test(name) else (_deterministic,)
        for check in checks:
            findings += check(module)
    return sorted(findings, key=lambda each: (each.file, each.line, each.check))


# -- the checks --------------------------------------------------------------------------------------------------------


def _calls(module: _Module) -> Iterator[tuple[str, Any]]:
    for kind, node in syntax.nodes(module.rules):
        if kind == "Call":
            yield syntax.path(node["fcn"]) or "", node


def _deterministic(module: _Module) -> Iterator[Finding]:
    for line, text in forms.impure(module.tree, module.trees):
        yield Finding("nondeterministic", str(module.path), line, text)


def _denying(module: _Module) -> Iterator[Finding]:
    for line, text in forms.no_set(module.tree):
        yield Finding("deny-form", str(module.path), line, text)


def _bounded(module: _Module) -> Iterator[Finding]:
    for name, node in _calls(module):
        if name in _UNBOUNDED:
            text = f"{name} has no bound that a reader can see, or writes; say it with `some .. in` over a field"
            yield Finding("unbounded-cost", str(module.path), syntax.line(node), text)
    for rule in module.rules:
        (spec,) = rule.values()
        loops = [node for kind, node in syntax.nodes(spec) if kind in {"SomeIn", "Every"} or _is_wildcard(kind, node)]
        if len(loops) > _MOST_LOOPS:
            text = f"{len(loops)} loops in one rule multiply; at most {_MOST_LOOPS} are taken"
            yield Finding("unbounded-cost", str(module.path), syntax.line(loops[_MOST_LOOPS]), text)


def _is_wildcard(kind: str, node: Any) -> bool:
    """Whether a reference goes over all elements: `x[_]`."""
    index = node.get("index") if kind == "RefBrack" else None
    return isinstance(index, dict) and index.get("Var", {}).get("value") in _WILDCARDS


def _metadata(module: _Module) -> Iterator[Finding]:
    if not module.source.startswith("# METADATA\n"):
        yield Finding("metadata", str(module.path), 1, "begin the module with its METADATA: title, description, custom")
        return
    try:
        rule = declared_rule(module.path, module.source)
    except SettingError as error:
        line = re.search(r":(\d+): ", error.what)
        yield Finding("metadata", str(module.path), int(line[1]) if line else 1, error.what.rpartition(": ")[2])
        return
    if rule is None:
        return
    if f"{rule.name}.rego" != module.name:
        yield Finding("name", str(module.path), 1, f"the file of rule {rule.name} is {rule.name}.rego")
    page, _, _ = rule.runbook.partition("#")
    if not rule.runbook.startswith("https://") and not (module.path.parents[2] / page).is_file():
        yield Finding(
            "runbook", str(module.path), 1, f"there is no {page}; write the page, or name its https:// address"
        )
    if not module.path.with_name(module.name.replace(".rego", TEST_SUFFIX)).is_file():
        yield Finding("untested", str(module.path), 1, f"write {module.name.replace('.rego', TEST_SUFFIX)}")


def _reachable(module: _Module) -> Iterator[Finding]:
    """A rule that no decision can lead to is dead, however it reads."""
    for rule in module.rules:
        named = syntax.named(rule)
        name = str(named.get("value", ""))
        gathered = name == "deny" and module.package.startswith(tuple(f"qethics.rules.{part}." for part in JUDGING))
        if gathered or (module.package == "qethics" and name == "decision"):
            continue
        if f"data.{module.package}.{name}" not in module.read:
            text = f"nothing reads {name}: the decision gathers `deny` of data.qethics.rules.<{' | '.join(JUDGING)}>.*"
            yield Finding("unreachable", str(module.path), syntax.line(named), text)


def _possible(module: _Module) -> Iterator[Finding]:
    """A condition that is always the same says nothing, or forbids the rule ever to hold."""
    for kind, node in syntax.nodes(module.rules):
        if kind == "Expr" and set(node["expr"]) <= {"Bool", "String", "Number"}:
            yield Finding(
                "constant-condition", str(module.path), syntax.line(node), "this is always the same; leave it out"
            )
        elif kind in {"BoolExpr", "ArithExpr"} and "lhs" in node:
            sides = [next(iter(node[side])) for side in ("lhs", "rhs")]
            if set(sides) <= {"Bool", "String", "Number"}:
                yield Finding("constant-condition", str(module.path), syntax.line(node), "both sides are fixed")


def _known_fields(module: _Module) -> Iterator[Finding]:
    """A field that no document has is undefined, which reads like a rule and never holds."""
    seen = set()
    for kind, node in syntax.nodes(module.rules):
        if kind != "RefDot":
            continue
        steps = (syntax.path({kind: node}) or "").split(".")
        place = syntax.line(node), steps[-1]
        if steps[0] == "input" and place not in seen:
            part = steps[1]
            unknown = part not in syntax.INPUT or (
                len(steps) == 3 and syntax.INPUT[part] and steps[2] not in syntax.INPUT[part]
            )
            if unknown:
                text = f"no document has {'.'.join(steps)}; docs/contract/policy-input.schema.json lists all fields"
                yield Finding("unknown-input", str(module.path), syntax.line(node), text)
        elif steps[0] == "data" and len(steps) == 2 and steps[1] not in {*module.data, "qethics", "qethics_test"}:
            yield Finding("unknown-data", str(module.path), syntax.line(node), f"the policy data has no {steps[1]!r}")
        seen.add(place)


_VERB: Final = re.compile(r"%[-+# 0-9.]*[a-zA-Z]")


def _formats(module: _Module) -> Iterator[Finding]:
    for name, node in _calls(module):
        if name != "sprintf" or len(node.get("params", ())) != 2:
            continue
        text, values = node["params"]
        if "String" in text and "Array" in values:
            wanted, given = len(_VERB.findall(text["String"]["value"])), len(values["Array"]["items"])
            if wanted != given:
                what = f"the format takes {wanted} values, {given} are given"
                yield Finding("sprintf", str(module.path), syntax.line(node), what)


def _legible(module: _Module) -> Iterator[Finding]:
    """Coverage is by line: whether a denial was seen shows only where its body stands on lines of its own."""
    for number, line in enumerate(module.source.split("\n"), 1):
        if re.match(r"deny\b", line) and not (line.startswith("deny contains ") and line.endswith(" if {")):
            text = "write `deny contains REASON if {` and the body below it, so that tests show whether it held"
            yield Finding("deny-form", str(module.path), number, text)


_CHECKS: Final[tuple[Callable[[_Module], Iterator[Finding]], ...]] = (
    _deterministic,
    _denying,
    _bounded,
    _metadata,
    _reachable,
    _possible,
    _known_fields,
    _formats,
    _legible,
)


def slow(directory: Path, pack: Pack) -> list[Finding]:
    """The bound that no reading finds: what every rule really takes over the heaviest document there can be."""
    evaluate = Evaluator.of(pack)
    document = heaviest()
    findings = []
    try:
        for rule in pack.rules.values():
            text = _slow(f"data.qethics.rules.{rule.judges}.{rule.name}.deny", evaluate, document)
            if text is not None:
                path = directory / "rules" / f"{rule.name}.rego"
                findings.append(Finding("unbounded-cost", str(path), 1, f"over the heaviest document: {text}"))
                # A time-out must not count against the rules that come after.
                evaluate.close()
                evaluate = Evaluator.of(pack)
    finally:
        evaluate.close()
    return findings


def _slow(rule: str, evaluate: Evaluator, document: bytes) -> str | None:
    """Why a rule takes too long over a document; None if it does not. The best of many: other work is not its own."""
    took, tries, faults = float("inf"), 0, list[str]()
    while took > HEAVIEST_SECONDS and tries < _MOST_TRIES:
        tries += 1
        began = time.perf_counter()
        try:
            evaluate.ask(rule, document)
        except PolicyError as error:
            faults.append(str(error).strip().rpartition("error:")[2].strip())
            if len(faults) == _MOST_FAULTS:
                return faults[0]
        else:
            took = min(took, time.perf_counter() - began)
    return f"{took:.3f} s, {HEAVIEST_SECONDS:g} s are taken; loop over less" if took > HEAVIEST_SECONDS else None


def heaviest() -> bytes:
    """The document that gives rules the most to do: every list as long as the schema lets it be."""
    texts = [{"field": "error", "text": "a1@" * 341} for _ in range(70)]
    scopes = [f"scope-{number}" for number in range(64)]
    document = {
        "judging": list(JUDGING),
        "run": {"consent": {"granted": True, "scopes": scopes}, "sensitivity": "regulated", "tier": "high"},
        "clear": texts,
    }
    return msgspec.json.encode(msgspec.convert(document, Document))
