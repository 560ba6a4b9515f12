"""The engine's own syntax tree of a Rego module, and what is asked of it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_type_hints

import regorus

from app.core.evaluating import PolicyError
from app.core.facts import Document
from app.policy.inline import said

#: Part of the input document -> its fields; none of a part that is a list.
INPUT: Final[dict[str, frozenset[str]]] = {
    name: frozenset(getattr(hint, "__struct_fields__", ())) for name, hint in get_type_hints(Document).items()
}


def tree(name: str, source: str) -> Any:
    """The tree of a module.

    Raises
    ------
    PolicyError
        If it does not parse.
    """
    engine = regorus.Engine()
    try:
        engine.add_policy(name, source)
    except RuntimeError as error:
        raise PolicyError(said(error)) from error
    found = json.loads(engine.get_ast_as_json())[0]["ast"]
    text = source.encode()
    for each in found["imports"]:
        if each.get("as") is not None:  # the engine says where the name stands, not what it is
            each["as"] = text[each["as"]["start"] : each["as"]["end"]].decode()
    return found


def nodes(part: Any) -> Iterator[tuple[str, Any]]:
    """Every node of a tree with its kind."""
    waiting = [part]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for kind, inner in node.items():
                if isinstance(inner, dict) and "span" in inner:
                    yield kind, inner
                waiting.append(inner)
        elif isinstance(node, list):
            waiting += node


def path(node: Any) -> str | None:
    """A reference such as `data.x.y` as text, up to its first part that is not fixed."""
    ((kind, inner),) = node.items()
    if kind == "Var":
        return str(inner["value"])
    if kind == "RefDot":
        outer = path(inner["refr"])
        return None if outer is None else f"{outer}.{inner['field'][1]}"
    if kind == "RefBrack":
        return path(inner["refr"])
    return None


def imports(module: Any) -> dict[str, str]:
    """Name -> full path of what a module imports."""
    found = {}
    for each in module["imports"]:
        full = path(each["refr"]) or ""
        found[each.get("as") or full.rpartition(".")[2]] = full
    return found


def reads(module: Any) -> Iterator[str]:
    """Full paths that a module reads."""
    known, package = imports(module), path(module["package"]["refr"]) or ""
    heads = {id(named(rule)) for rule in module["rules"]}
    for kind, node in nodes(module["rules"]):
        if kind in {"Var", "RefDot"} and id(node) not in heads:
            full = path({kind: node}) or ""
            first, _, rest = full.partition(".")
            yield ".".join(filter(None, (known.get(first, first), rest)))
            yield f"data.{package}.{full}"


def named(rule: Any) -> Any:
    """The node that names a rule."""
    (spec,) = rule.values()
    if "head" not in spec:
        return spec["refr"].get("Var", spec["refr"])
    (head,) = spec["head"].values()
    return head["refr"].get("Var", head["refr"])


def line(node: Any) -> int:
    """Where a node stands."""
    return int(node["span"]["line"])


def lines(name: str, source: str) -> set[int]:
    """The lines of a module that hold a statement, which a test can reach."""
    bodies = (body for rule in tree(name, source)["rules"] for spec in rule.values() for body in spec.get("bodies", ()))
    statements = (statement for body in bodies for statement in body["query"]["stmts"])
    return {line(statement) for statement in statements if "SomeVars" not in statement["literal"]}


def inputs(modules: Mapping[str, str], name: str) -> list[str]:
    """The fields of the input document that a module looks at, by itself and through what it asks of others."""
    trees = {each: tree(each, source) for each, source in modules.items()}
    #: A rule may be there several times, once for each of its bodies.
    bodies: dict[str, list[tuple[Any, Any]]] = {}
    for module in trees.values():
        for rule in module["rules"]:
            full = f"data.{path(module['package']['refr'])}.{named(rule).get('value')}"
            bodies.setdefault(full, []).append((module, rule))
    waiting = [(trees[name], trees[name]["rules"])]
    seen: set[str] = set()
    found: set[str] = set()
    while waiting:
        module, node = waiting.pop()
        for full in reads({**module, "rules": node if isinstance(node, list) else [node]}):
            if full.startswith("input."):
                found.add(".".join(full.split(".")[1:3]))
            elif full in bodies and full not in seen:
                seen.add(full)
                waiting += bodies[full]
    parts = {each for each in found if "." in each or not INPUT.get(each)}
    return sorted(each for each in parts if each != "judging")
