"""`policies/` as a rule pack: the rules with their METADATA, and the data they go by."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from app.catalog import DEFAULT_DIRECTORY, CatalogFile, EvidenceFile
from app.core.evaluating import PolicyError
from app.core.events import Probability, Sensitivity, Tier
from app.core.exemptions import Exemption
from app.core.facts import JUDGING, MATERIAL
from app.core.policy import Mode, Pack, Policy, Rule, Severity
from app.core.standards import Standards
from app.documents import line_of, parse, read, unusable
from app.policy import forms
from app.policy.evaluator import LABELS
from app.policy.inline import Inline

#: What of a workload decides on its runs; the rest is what the streams are watched for.
_DECIDING: Final = ("tier", "purposes", "synchronous", "explanation_floor")
#: A rule is read by people: what is larger is data, or generated.
MOST_MODULE_BYTES: Final = 64 * 1024
TEST_SUFFIX: Final = "_test.rego"

Line = Annotated[str, Meta(min_length=1, max_length=1000)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Where runs may be sent: whose it is, where, for which data, and which data a contract covers."""

    provider: Name
    region: Name
    sensitivities: tuple[Sensitivity, ...]
    contract: tuple[Sensitivity, ...] = ()


class _EndpointsFile(Struct, frozen=True, forbid_unknown_fields=True):
    endpoints: dict[Name, Endpoint]


class _ThirdParty(Struct, frozen=True, forbid_unknown_fields=True):
    signs_results: bool


class _Shots(Struct, frozen=True, forbid_unknown_fields=True):
    least: dict[Tier, Annotated[int, Meta(ge=1)]]
    most: Annotated[int, Meta(ge=1)]


class _Reproducibility(Struct, frozen=True, forbid_unknown_fields=True):
    always: tuple[Literal[MATERIAL], ...]  # type: ignore[valid-type]
    quantum: tuple[Literal[MATERIAL], ...]  # type: ignore[valid-type]


class _Gate(Struct, frozen=True, forbid_unknown_fields=True):
    tiers: tuple[Tier, ...]


class _GovernanceFile(Struct, frozen=True, forbid_unknown_fields=True):
    tiers: tuple[Tier, ...]
    sensitivities: tuple[Sensitivity, ...]
    encrypted_sensitivities: tuple[Sensitivity, ...]
    personal_sensitivities: tuple[Sensitivity, ...]
    residency: dict[Sensitivity, tuple[Name, ...]]
    third_parties: dict[Name, _ThirdParty]
    uncontracted_sensitivities: tuple[Sensitivity, ...]
    forbidden_purposes: tuple[Name, ...]
    shots: _Shots
    canary_share: dict[Tier, Probability]
    reproducibility: _Reproducibility
    calibration_hours: dict[Tier, Annotated[float, Meta(gt=0)]]
    gate: _Gate
    modes: dict[Name, Mode]
    fail_open: tuple[Name, ...]
    never_exempt: tuple[Name, ...]


class _Custom(Struct, frozen=True, forbid_unknown_fields=True):
    severity: Severity
    owner: Name
    control: Name
    remediation: Line
    runbook: Line


class _Metadata(Struct, frozen=True):
    title: Line
    description: Line
    custom: _Custom


class _ExemptionsFile(Struct, frozen=True, forbid_unknown_fields=True):
    exemptions: tuple[Exemption, ...]


def load_pack(directory: Path = DEFAULT_DIRECTORY, version: int = 0) -> Pack:
    """Read rules, data and exemptions, and check that the rules can be relied on; nothing is compiled yet.

    Parameters
    ----------
    directory
        Where `rules/` and the data are.
    version
        That of the bundle to be made of it.

    Raises
    ------
    SettingError
        If a rule lacks its METADATA, has a `deny` that is no set of texts, or calls what does not answer by its
        arguments alone; or if the data cannot be used. It names file, line and key.
    """
    _check_forms(directory, sources(directory))
    return read_pack(directory, version)


def _check_forms(directory: Path, modules: Mapping[str, str]) -> None:
    fault = forms.first_fault(modules)
    if fault is not None:
        raise unusable(directory / "rules" / fault.module, "", fault.text, line=fault.line)


def read_pack(directory: Path = DEFAULT_DIRECTORY, version: int = 0) -> Pack:
    """Read rules, data and exemptions, whatever the rules do: for who says all that is wrong with them.

    Raises
    ------
    SettingError
        If a rule lacks its METADATA, or the data cannot be used.
    """
    modules = sources(directory)
    governance = read(directory / "governance.yaml", _GovernanceFile)
    rules: dict[str, Rule] = {}
    for name, source in modules.items():
        rule = declared_rule(directory / "rules" / name, source)
        if rule is not None:
            rules[rule.name] = in_force(rule, governance.modes, governance.fail_open)
    if not rules:
        raise unusable(directory / "rules", "*.rego", "there is no rule")
    for key in ("modes", "fail_open", "never_exempt"):
        for name in getattr(governance, key):
            if name not in rules:
                path = directory / "governance.yaml"
                raise unusable(path, f"{key}.{name}", "there is no such rule", line=line_of(path, key, name))
    exemptions = _exemptions(directory / "exemptions.yaml", rules, governance)
    return Pack(modules, rules, _data(directory, governance), version, exemptions)


def load_tests(directory: Path = DEFAULT_DIRECTORY) -> dict[str, str]:
    """The modules that test the rules, by file name.

    Raises
    ------
    SettingError
        If one calls what does not answer by its arguments alone, or the rules they are about are refused.
    """
    modules = sources(directory, tests=True)
    _check_forms(directory, modules)
    return {name: source for name, source in modules.items() if is_test(name)}


def is_test(name: str) -> bool:
    """Whether a module holds tests."""
    return name.endswith(TEST_SUFFIX)


def load_policy(directory: Path = DEFAULT_DIRECTORY) -> Policy:
    """Read and compile the rules, to be evaluated in this process and thread.

    Raises
    ------
    SettingError
        As `load_pack`, and if a rule does not parse.
    """
    pack = load_pack(directory)
    try:
        return Policy(pack, Inline(pack.modules, pack.data), labels=LABELS)
    except PolicyError as error:
        raise unusable(directory / "rules", "*.rego", " ".join(str(error).split())) from error


def sources(directory: Path, *, tests: bool = False) -> dict[str, str]:
    """The Rego modules of a policy directory by file name; with or without those that test.

    Raises
    ------
    SettingError
        If one cannot be read or is too large.
    """
    found = {}
    for path in sorted((directory / "rules").glob("*.rego")):
        if is_test(path.name) and not tests:
            continue
        try:
            found[path.name] = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise unusable(path, "", str(error)) from error
        if len(found[path.name]) > MOST_MODULE_BYTES:
            raise unusable(path, "", f"more than {MOST_MODULE_BYTES} characters; move its data to a YAML file")
    return found


_PACKAGE: Final = re.compile(r"^package qethics\.rules\.(\w+)\.(\w+)$", re.MULTILINE)
#: A METADATA block as OPA reads it: comment lines, begun by one that says so (openpolicyagent.org, "Annotations").
_METADATA: Final = re.compile(r"^# METADATA\n((?:#.*\n)+)", re.MULTILINE)


def declared_rule(path: Path, source: str) -> Rule | None:
    """The rule a module declares, or None for a module that declares none.

    Raises
    ------
    SettingError
        If it lacks its METADATA, or a part of it.
    """
    package = _PACKAGE.search(source)
    if package is None:
        return None
    if package[1] not in JUDGING:
        raise unusable(path, "package", f"there is no {package[1]!r} to judge; there are {', '.join(JUDGING)}")
    block = _METADATA.search(source)
    if block is None or block.start() > package.start():
        raise unusable(path, "METADATA", "a rule carries its METADATA in front of its package", line=1)
    text = "\n".join(line[2:] for line in block[1].splitlines())
    metadata = parse(path, text, _Metadata, first_line=source[: block.start(1)].count("\n") + 1)
    return Rule(
        name=package[2],
        judges=package[1],
        title=metadata.title,
        description=metadata.description,
        **{name: getattr(metadata.custom, name) for name in metadata.custom.__struct_fields__},
    )


def in_force(rule: Rule, modes: Mapping[str, Mode], fail_open: Collection[str]) -> Rule:
    """A rule on the terms it is in force on: those that are not enforced, those admission may go on without."""
    return msgspec.structs.replace(rule, mode=modes.get(rule.name, "enforce"), fail_open=rule.name in fail_open)


def _exemptions(path: Path, rules: Mapping[str, Rule], governance: _GovernanceFile) -> tuple[Exemption, ...]:
    if not path.exists():
        return ()
    exemptions = read(path, _ExemptionsFile).exemptions
    names: set[str] = set()
    for index, exemption in enumerate(exemptions):
        wrong = exemption.wrong()
        if exemption.id in names:
            wrong = "id", "is there twice"
        elif exemption.rule not in rules:
            wrong = "rule", f"there is no rule {exemption.rule}"
        elif exemption.rule in governance.never_exempt:
            wrong = "rule", f"from {exemption.rule} nobody is exempted (never_exempt in governance.yaml)"
        if wrong is not None:
            line = line_of(path, "exemptions", index, wrong[0])
            raise unusable(path, f"exemptions[{index}].{wrong[0]}", wrong[1], line=line)
        names.add(exemption.id)
    return exemptions


def _data(directory: Path, governance: _GovernanceFile) -> Mapping[str, Any]:
    """The document the rules see as `data`."""
    catalog = read(directory / "catalog.yaml", CatalogFile)
    endpoints = read(directory / "endpoints.yaml", _EndpointsFile)
    data: dict[str, Any] = msgspec.to_builtins(governance)
    del data["modes"], data["fail_open"], data["never_exempt"]
    data["endpoints"] = msgspec.to_builtins(endpoints.endpoints)
    data["cost_centers"] = msgspec.to_builtins(catalog.cost_centers)
    data["workloads"] = {
        name: {each: told[each] for each in _DECIDING} for name, told in msgspec.to_builtins(catalog.workloads).items()
    }
    data["evidence"] = msgspec.to_builtins(read(directory / "evidence.yaml", EvidenceFile).tiers)
    try:
        Standards(data)
    except ValueError as error:
        raise unusable(directory / "evidence.yaml", "tiers", str(error)) from error
    return data
