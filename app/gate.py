"""`qethics policy`: the gate. Exit 0 all is well, 1 something is denied, broken or different, 2 wrong use."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from app.conventions import EXIT_FAILED
from app.core.names import one_line
from app.errors import SettingError

if TYPE_CHECKING:
    from app.core.policy import Pack, Policy
    from app.policy.check import Judged
    from app.policy.explain import Explanation

_FORMATS: Final = ("human", "json", "junit", "sarif")


def add_commands(commands: Any) -> None:
    """The commands of the gate, below `qethics policy`."""
    gate = commands.add_parser(
        "policy", help="the policy gate: lint, test, check, explain, diff, build, verify, replay"
    ).add_subparsers(required=True, metavar="WHAT")
    _command(gate, "lint", _lint, "what is wrong with rules although they parse")
    tests = _command(gate, "test", _test, "run the tests beside the rules, with coverage")
    tests.add_argument("--run", dest="only", default="", metavar="REGEX", help="only these; no coverage")
    checked = _command(gate, "check", _check, "judge workload manifests and recorded events")
    checked.add_argument("files", nargs="+", type=Path, metavar="FILE", help="manifests (YAML, JSON) or events (JSONL)")
    checked.add_argument("--format", choices=_FORMATS, default="human", help="of what is printed")
    explained = _command(gate, "explain", _explain, "which rule, which facts, and what would change the answer")
    explained.add_argument("file", type=Path, help="a manifest, or recorded events")
    explained.add_argument("run_id", nargs="?", help="the run of the recorded events; all of them without")
    built = _command(gate, "build", _build, "pack rules, tests and data into a signed bundle")
    built.add_argument("--key", type=Path, required=True, metavar="PEM", help="private key it is signed with (P-256)")
    built.add_argument("--output", type=Path, default=Path("bundle.tar.gz"), metavar="FILE", help="bundle.tar.gz")
    built.add_argument(
        "--version",
        type=_version,
        help="must be above that of the bundle in force, and no time to come; the time without",
    )
    verified = _command(gate, "verify", _verify, "check a bundle as a worker does", directory=False)
    verified.add_argument("bundle", type=Path, help="the bundle")
    verified.add_argument("--keys", type=Path, required=True, metavar="PEM", help="public keys that are trusted")
    verified.add_argument("--revocations", type=Path, metavar="YAML", help="what is trusted no more")
    replayed = _command(gate, "replay", _replay, "decide recorded decisions again, and compare the bytes")
    replayed.add_argument("file", type=Path, help="decision records, JSON lines")
    replayed.add_argument("--bundle", type=Path, help="the bundle that decided them, instead of a directory")
    replayed.add_argument("--keys", type=Path, metavar="PEM", help="public keys that are trusted")
    changed = _command(gate, "diff", _diff, "which recorded runs change their verdict", directory=False)
    changed.add_argument("old", type=Path, help="a policies directory")
    changed.add_argument("new", type=Path, help="another")
    changed.add_argument("files", nargs="+", type=Path, metavar="FILE", help="manifests or recorded events")


def _command(
    gate: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, *, directory: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = gate.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    if directory:
        parser.add_argument("--policies", type=Path, help="the policies directory (default: that of the settings)")
    if name != "check":
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _directory(options: argparse.Namespace) -> Path:
    from app.settings import load

    return options.policies if options.policies is not None else load().policies


def _lint(options: argparse.Namespace) -> int:
    from msgspec import to_builtins

    from app.policy import lint
    from app.policy.pack import read_pack, sources

    directory = _directory(options)
    modules = sources(directory, tests=True)
    if not modules:
        raise SettingError(f"{directory}/rules holds no rule", "name a policies directory with --policies")
    try:
        pack = read_pack(directory)
    except SettingError:
        findings = lint.lint(directory, modules, {})
        if not findings:
            raise
    else:
        findings = lint.lint(directory, modules, pack.data)
        # What does not parse cannot be run; what asks the network is not run.
        if not any(finding.check in {"parse", "nondeterministic"} for finding in findings):
            findings += lint.slow(directory, pack)
    if options.json:
        print(json.dumps({"findings": [to_builtins(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(f"{finding.file}:{finding.line}: {finding.check}: {finding.text}")
        print(f"{len(modules)} modules, {len(findings)} findings")
    return EXIT_FAILED if findings else 0


def _test(options: argparse.Namespace) -> int:
    from msgspec import to_builtins

    from app.core.evaluating import PolicyError
    from app.policy import testing
    from app.policy.pack import load_pack, load_tests

    directory = _directory(options)
    pack, tests = load_pack(directory), load_tests(directory)
    try:
        report = testing.run(pack.modules, pack.data, tests, only=options.only)
    except PolicyError as error:
        raise SettingError(str(error), "correct the rule or test; `qethics policy lint` says where") from error
    failures = report.test_failures if options.only else report.failures
    counts = {status: 0 for status in ("pass", "fail", "error", "skip")}
    for result in report.results:
        counts[result.status] += 1
    if options.json:
        print(json.dumps({**to_builtins(report), "counts": counts, "failures": failures}))
    else:
        print(*failures, sep="\n", end="\n" if failures else "")
        covered = "" if options.only else f"; {report.coverage:.1%} of the lines covered"
        print(", ".join(f"{number} {status}" for status, number in counts.items()) + covered)
    return EXIT_FAILED if failures else 0


def _build(options: argparse.Namespace) -> int:
    from app.core.evaluating import PolicyError
    from app.policy import bundle, testing
    from app.policy.pack import load_pack, load_tests

    directory = _directory(options)
    key = bundle.read_private_key(options.key)
    pack = load_pack(directory, options.version or int(time.time()))
    tests = load_tests(directory)
    try:
        failures = testing.run(pack.modules, pack.data, tests).failures
    except PolicyError as error:
        failures = [str(error)]
    if failures:
        print(*failures, sep="\n", file=sys.stderr)
        return EXIT_FAILED
    written = bundle.write(pack, tests, key)
    # Whoever reads it while it is written sees the old one or the new one, and no half of either.
    partial = options.output.with_name(f".{options.output.name}.partial")
    try:
        partial.write_bytes(written)
        partial.replace(options.output)
    except OSError as error:
        raise SettingError(f"cannot write {options.output}: {error.strerror}", "name another --output") from error
    _show_bundle(options, pack, options.output, {"bytes": len(written)})
    return 0


def _verify(options: argparse.Namespace) -> int:
    from app.policy import bundle
    from app.policy.trial import passed
    from app.policy.trust import read_trust

    trust = read_trust(options.keys, options.revocations)
    try:
        opened = bundle.read(options.bundle.read_bytes(), trust.keys)
        if (why := trust.objection_to(opened.pack, opened.key_id)) is not None:
            raise bundle.BundleError(why)
        passed(opened)
    except OSError as error:
        raise SettingError(f"{options.bundle}: {error.strerror}", "name a bundle") from error
    except bundle.BundleError as error:
        print(json.dumps({"refused": str(error)}) if options.json else f"{options.bundle} is refused: {error}")
        return EXIT_FAILED
    _show_bundle(options, opened.pack, options.bundle, {"key": opened.key_id})
    return 0


def _show_bundle(options: argparse.Namespace, pack: "Pack", path: Path, more: dict[str, Any]) -> None:
    digest = pack.digest
    figures = {"version": pack.version, "revision": digest[:16], "rules": len(pack.rules)}
    figures |= {"exemptions": len(pack.exemptions), **more}
    if options.json:
        print(json.dumps({"bundle": str(path), "digest": digest, **figures}))
    else:
        print(f"{path}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))


def _version(text: str) -> int:
    from app.core.policy import MOST_AHEAD_SECONDS

    value = int(text)
    if not 1 <= value <= time.time() + MOST_AHEAD_SECONDS:
        raise ValueError(text)
    return value


def _replay(options: argparse.Namespace) -> int:
    from app.core.evaluating import PolicyError
    from app.core.replay import replayed

    policy = _decided_by(options)
    same, different = 0, []
    try:
        with options.file.open("rb") as file:
            for number, line in enumerate(file, 1):
                written = line.rstrip(b"\n")
                try:
                    why = None if replayed(written, policy) == written else "decided differently"
                except PolicyError as error:
                    why = str(error)
                if why is None:
                    same += 1
                else:
                    different.append({"line": number, "why": why})
    except OSError as error:
        raise SettingError(f"{options.file}: {error.strerror}", "name a file of decision records") from error
    if not same and not different:
        raise SettingError(f"{options.file} holds no decision record", "name one that does")
    if options.json:
        print(json.dumps({"revision": policy.revision, "identical": same, "different": different}))
    else:
        for each in different:
            print(f"{options.file}:{each['line']}: {each['why']}")
        print(f"{same} identical, {len(different)} not, by revision {policy.revision}")
    return EXIT_FAILED if different else 0


def _decided_by(options: argparse.Namespace) -> "Policy":
    from app.core.policy import Policy
    from app.policy import bundle
    from app.policy.evaluator import LABELS
    from app.policy.inline import Inline
    from app.policy.pack import load_policy

    if (options.bundle is None) != (options.keys is None):
        raise SettingError("of --bundle and --keys only one is given", "give both, or neither")
    if options.bundle is None:
        return load_policy(_directory(options))
    try:
        opened = bundle.read(options.bundle.read_bytes(), bundle.read_keys(options.keys))
    except OSError as error:
        raise SettingError(f"{options.bundle}: {error.strerror}", "name a bundle") from error
    except bundle.BundleError as error:
        raise SettingError(f"{options.bundle}: {error}", "name the bundle that decided") from error
    return Policy(opened.pack, Inline(opened.pack.modules, opened.pack.data), labels=LABELS)


def _judged(files: list[Path], policies: Path) -> "tuple[list[Judged], Policy]":
    from app.catalog import load_catalog
    from app.policy.check import check
    from app.policy.pack import load_policy

    policy, catalog = load_policy(policies), load_catalog(policies)
    return [each for file in files for each in check(file, policy, catalog, time.time())], policy


def _check(options: argparse.Namespace) -> int:
    from app.policy.report import FORMATS

    found, policy = _judged(options.files, _directory(options))
    print(FORMATS[options.format](found, policy))
    return EXIT_FAILED if any(each.denied for each in found) else 0


def _explain(options: argparse.Namespace) -> int:
    from msgspec import to_builtins

    from app.policy.explain import explain

    found, policy = _judged([options.file], _directory(options))
    if options.run_id is not None:
        found = [each for each in found if each.name == options.run_id]
        if not found:
            raise SettingError(f"{options.file} has no run {options.run_id!r} that was judged", "name one that it has")
    explanations = [explanation for each in found for explanation in explain(each, policy)]
    if options.json:
        print(json.dumps({"policy_revision": policy.revision, "explanations": to_builtins(explanations)}))
    else:
        print("\n\n".join(map(_text, explanations)) or f"{len(found)} judged, no rule is broken")
    return EXIT_FAILED if any(each.denied for each in found) else 0


def _text(explanation: "Explanation") -> str:
    lines = [
        f"{explanation.run} breaks {explanation.rule} ({explanation.mode}; {explanation.control}, {explanation.owner})",
        f"  {explanation.reason}",
        f"  rule     {explanation.title}. {explanation.description}",
        *(f"  fact     {path} = {json.dumps(value)}" for path, value in explanation.facts.items()),
    ]
    for change in explanation.changes:
        facts = ", ".join(f"{path} = {json.dumps(value)}" for path, value in change.facts.items())
        instead = f", but then {', '.join(change.instead)}" if change.instead else ""
        lines.append(f"  unless   {facts}{instead}")
    return "\n".join(map(one_line, [*lines, f"  do       {explanation.remediation} ({explanation.runbook})"]))


def _diff(options: argparse.Namespace) -> int:
    (old, before), (new, after) = (_judged(options.files, directory) for directory in (options.old, options.new))
    known = {(each.file, each.name): each for each in old}
    changed = []
    for each in new:
        was = known.get((each.file, each.name))
        change = _Change(each.name, each.file, each.line, _denials(was) if was is not None else [], _denials(each))
        if change.old != change.new:
            changed.append(change)
    turned = {
        "newly_denied": sum(not change.old for change in changed),
        "newly_allowed": sum(not change.new for change in changed),
    }
    revisions = {"old": before.revision, "new": after.revision}
    if options.json:
        print(
            json.dumps(
                {
                    "revisions": revisions,
                    "judged": len(new),
                    **turned,
                    "changed": [change._asdict() for change in changed],
                }
            )
        )
    else:
        for change in changed:
            gone = [f"- {text}" for text in change.old if text not in change.new]
            come = [f"+ {text}" for text in change.new if text not in change.old]
            print(*map(one_line, [f"{change.file}:{change.line}: {change.run}", *gone, *come]), sep="\n  ")
        print(
            f"{len(new)} judged by {revisions['old']} and {revisions['new']}: {len(changed)} change, "
            f"{turned['newly_denied']} newly denied, {turned['newly_allowed']} newly allowed"
        )
    return EXIT_FAILED if changed else 0


class _Change(NamedTuple):
    """A run whose verdict changes: what denies it before and after."""

    run: str
    file: str
    line: int
    old: list[str]
    new: list[str]


def _denials(judged: "Judged") -> list[str]:
    return sorted({f"{each.rule}: {each.reason}" for each in judged.denials})
