"""What a check found, as people and machines want to read it: text, JSON, JUnit XML and SARIF 2.1.0."""

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final
from xml.etree import ElementTree

import msgspec

from app.core.names import one_line
from app.core.policy import Mode, Policy
from app.policy.check import Judged

#: https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json
SARIF_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final[dict[Mode, str]] = {"enforce": "error", "warn": "warning", "dry_run": "note"}


def human(found: Sequence[Judged], policy: Policy) -> str:
    """A line for each violation, and the sum."""
    lines = [
        f"{each.file}:{each.line}: {each.name}: {violation.mode} {violation.severity} {violation.rule}: "
        f"{violation.reason} ({violation.owner}, {violation.control})"
        for each in found
        for violation in each.violations
    ]
    denied = sum(each.denied for each in found)
    lines.append(f"{len(found)} judged by revision {policy.revision}: {len(found) - denied} good, {denied} denied")
    return "\n".join(map(one_line, lines))


def as_json(found: Sequence[Judged], policy: Policy) -> str:
    """One object: the revision, how many were judged and denied, and every violation with its place."""
    violations = [
        {"file": each.file, "line": each.line, **msgspec.to_builtins(violation)}
        for each in found
        for violation in each.violations
    ]
    return json.dumps(
        {
            "policy_revision": policy.revision,
            "judged": len(found),
            "denied": sum(each.denied for each in found),
            "violations": violations,
        }
    )


def junit(found: Sequence[Judged], policy: Policy) -> str:
    """A test case for each run and manifest, a failure for each rule that is enforced and broken."""
    denied = sum(each.denied for each in found)
    suite = ElementTree.Element(
        "testsuite", name=f"qethics policy {policy.revision}", tests=str(len(found)), failures=str(denied), errors="0"
    )
    for each in found:
        case = ElementTree.SubElement(suite, "testcase", classname=each.file, name=one_line(each.name))
        texts = [one_line(f"{v.mode} {v.severity} {v.rule}: {v.reason}") for v in each.violations]
        if each.denied:
            first = each.denials[0]
            ElementTree.SubElement(case, "failure", type=first.rule, message=one_line(first.reason)).text = "\n".join(
                texts
            )
        elif texts:
            ElementTree.SubElement(case, "system-out").text = "\n".join(texts)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def sarif(found: Sequence[Judged], policy: Policy) -> str:
    """SARIF, as code hosts show beside the lines of a change."""
    names = sorted(policy.rules)
    rules = [
        {
            "id": name,
            "name": name,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.description},
            "help": {"text": f"{rule.remediation} Runbook: {rule.runbook}"},
            "defaultConfiguration": {"level": _LEVELS[rule.mode]},
            "properties": {"severity": rule.severity, "owner": rule.owner, "control": rule.control},
        }
        for name, rule in ((name, policy.rules[name]) for name in names)
    ]
    results: list[dict[str, Any]] = [
        {
            "ruleId": violation.rule,
            "ruleIndex": names.index(violation.rule),
            "level": _LEVELS[policy.rules[violation.rule].mode],
            "message": {"text": f"{each.name}: {violation.reason}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": each.file.replace("\\", "/")},
                        "region": {"startLine": each.line},
                    }
                }
            ],
            "partialFingerprints": {"qethics/v1": f"{each.name}/{violation.rule}/{violation.input_digest}"},
        }
        for each in found
        for violation in each.violations
    ]
    driver = {
        "name": "qethics",
        "version": version("qethics"),
        "rules": rules,
        "properties": {"policy_revision": policy.revision},
    }
    return json.dumps(
        {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    )


FORMATS: Final[dict[str, Callable[[Sequence[Judged], Policy], str]]] = {
    "human": human,
    "json": as_json,
    "junit": junit,
    "sarif": sarif,
}
