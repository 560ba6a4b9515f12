"""What a rule must be for its verdict to count: a function of its input, that denies with a set of texts.

It is checked wherever rules are loaded (a directory, a bundle, their tests too), before any of them is evaluated: the
engine has `http.send`, and a `deny` that is `true` would deny nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from app.core.evaluating import PolicyError
from app.core.facts import JUDGING
from app.policy import syntax

#: Builtins that answer by their arguments alone (openpolicyagent.org, "Policy Reference", without those marked as
#: nondeterministic, those that look at a clock, and those that write). What is not here is refused.
PURE: Final = frozenset(
    [
        "abs",
        "all",
        "any",
        "array.concat",
        "array.flatten",
        "array.reverse",
        "array.slice",
        "base64.decode",
        "base64.encode",
        "base64.is_valid",
        "base64url.decode",
        "base64url.encode",
        "base64url.encode_no_pad",
        "bits.and",
        "bits.lsh",
        "bits.negate",
        "bits.or",
        "bits.rsh",
        "bits.xor",
        "ceil",
        "concat",
        "contains",
        "count",
        "crypto.hmac.md5",
        "crypto.hmac.sha1",
        "crypto.hmac.sha256",
        "crypto.hmac.sha512",
        "crypto.md5",
        "crypto.sha1",
        "crypto.sha256",
        "endswith",
        "floor",
        "format_int",
        "glob.match",
        "glob.quote_meta",
        "graph.reachable",
        "graph.reachable_paths",
        "hex.decode",
        "hex.encode",
        "indexof",
        "indexof_n",
        "intersection",
        "is_array",
        "is_boolean",
        "is_null",
        "is_number",
        "is_object",
        "is_set",
        "is_string",
        "json.filter",
        "json.is_valid",
        "json.marshal",
        "json.match_schema",
        "json.patch",
        "json.remove",
        "json.unmarshal",
        "json.verify_schema",
        "lower",
        "max",
        "min",
        "net.cidr_contains",
        "net.cidr_contains_matches",
        "net.cidr_expand",
        "net.cidr_intersects",
        "net.cidr_is_valid",
        "net.cidr_merge",
        "numbers.range",
        "numbers.range_step",
        "object.filter",
        "object.get",
        "object.keys",
        "object.remove",
        "object.subset",
        "object.union",
        "object.union_n",
        "product",
        "regex.find_all_string_submatch_n",
        "regex.find_n",
        "regex.globs_match",
        "regex.is_valid",
        "regex.match",
        "regex.replace",
        "regex.split",
        "regex.template_match",
        "replace",
        "round",
        "semver.compare",
        "semver.is_valid",
        "set",
        "sort",
        "split",
        "sprintf",
        "startswith",
        "strings.any_prefix_match",
        "strings.any_suffix_match",
        "strings.count",
        "strings.render_template",
        "strings.replace_n",
        "strings.reverse",
        "substring",
        "sum",
        "time.add_date",
        "time.clock",
        "time.date",
        "time.diff",
        "time.format",
        "time.parse_duration_ns",
        "time.parse_ns",
        "time.parse_rfc3339_ns",
        "time.weekday",
        "to_number",
        "trim",
        "trim_left",
        "trim_prefix",
        "trim_right",
        "trim_space",
        "trim_suffix",
        "type_name",
        "union",
        "units.parse",
        "units.parse_bytes",
        "upper",
        "urlquery.decode",
        "urlquery.decode_object",
        "urlquery.encode",
        "urlquery.encode_object",
        "uuid.parse",
        "walk",
        "yaml.is_valid",
        "yaml.marshal",
        "yaml.unmarshal",
    ]
)
#: What an import must not be named, because it could be taken for a builtin.
_NAMESPACES: Final = frozenset(name.partition(".")[0] for name in PURE if "." in name) | frozenset(
    {"http", "io", "opa", "providers", "rand", "rego", "graphql"}
)
_RULES: Final = "qethics.rules"


class Fault(NamedTuple):
    """Why a module is refused: where, and what to do."""

    module: str
    line: int
    text: str

    def __str__(self) -> str:
        """As an error says it."""
        return f"{self.module}:{self.line}: {self.text}"


def check(modules: Mapping[str, str]) -> None:
    """Refuse modules whose verdict could not be relied on; one that does not parse is left to the engine to refuse.

    Parameters
    ----------
    modules
        File name -> Rego source.

    Raises
    ------
    PolicyError
        It names the module, the line and what to do.
    """
    fault = first_fault(modules)
    if fault is not None:
        raise PolicyError(str(fault))


def first_fault(modules: Mapping[str, str]) -> Fault | None:
    """Return the first thing that is wrong; None if nothing is."""
    trees = {}
    for name, source in sorted(modules.items()):
        try:
            trees[name] = syntax.tree(name, source)
        except PolicyError:
            continue
    for name, tree in trees.items():
        for line, text in (*impure(tree, trees.values()), *no_set(tree)):
            return Fault(name, line, text)
    # A package may be spread over modules, so whether it denies at all shows in all of them.
    packages = {_package(tree): name for name, tree in trees.items() if _package(tree).startswith(f"{_RULES}.")}
    denying = {_package(tree) for tree in trees.values() for rule in tree["rules"] if _name(rule) == "deny"}
    for package, name in packages.items():
        if package not in denying:
            return Fault(name, 1, f"{package} has no `deny`: write `deny contains REASON if {{`")
    return None


def impure(tree: Any, trees: Any) -> Iterator[tuple[int, str]]:
    """Find calls that may answer differently each time.

    Parameters
    ----------
    tree, trees
        The module, and all that it may call functions of.

    Yields
    ------
    The line, and what to do.
    """
    imports = syntax.imports(tree)
    for name in imports:
        if name in _NAMESPACES:
            yield 1, f"an import named {name} could be taken for a builtin; give it another name with `as`"
    own = {_name(rule) for other in trees if _package(other) == _package(tree) for rule in other["rules"]}
    for kind, node in syntax.nodes(tree["rules"]):
        if kind != "Call":
            continue
        name = syntax.path(node["fcn"]) or ""
        first, _, rest = name.partition(".")
        of_the_pack = first == "data" or imports.get(first, "").startswith("data.") if rest else name in own
        if "RefBrack" in node["fcn"] or not (of_the_pack or name in PURE):
            yield (
                syntax.line(node),
                f"{name} may answer differently each time or writes, so no verdict could be replayed; "
                f"pass what it says as input",
            )


def no_set(tree: Any) -> Iterator[tuple[int, str]]:
    """Find what a rule denies with other than a set of texts; where, and what to do."""
    package = _package(tree)
    if package != _RULES and not package.startswith(f"{_RULES}."):
        return
    parts = package.removeprefix(f"{_RULES}.").split(".")
    if len(parts) != 2 or parts[0] not in JUDGING:
        text = f"the package of a rule is {_RULES}.<{' | '.join(JUDGING)}>.NAME, not {package}"
        yield syntax.line(next(iter(tree["package"]["refr"].values()))), text
    for rule in tree["rules"]:
        if _name(rule) != "deny":
            continue
        (spec,) = rule.values()
        head = spec.get("head", {}).get("Set")
        plain = head is not None and set(head["refr"]) == {"Var"}
        if not plain or set(head["key"]) & _NO_TEXT:
            text = "`deny` is no set of texts: write `deny contains REASON if {`, where REASON is a string"
            yield syntax.line(spec), text


#: Kinds of literals that are no text.
_NO_TEXT: Final = frozenset({"Number", "Bool", "Null", "Array", "Set", "Object"})


def _package(tree: Any) -> str:
    return syntax.path(tree["package"]["refr"]) or ""


def _name(rule: Any) -> str:
    """What the head of a rule begins with."""
    (spec,) = rule.values()
    head = next(iter(spec["head"].values())) if "head" in spec else spec
    return (syntax.path(head["refr"]) or "").partition(".")[0]
