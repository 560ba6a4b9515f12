"""The gate as a user runs it."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from app.catalog import DEFAULT_DIRECTORY
from app.cli import main
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

ROOT = DEFAULT_DIRECTORY.parent


@pytest.fixture
def qethics(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture
def policies(tmp_path):
    """A policies directory to change, with the page that its rules name as runbook beside it."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    return shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "policies")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording with its truth."""
    traffic = Traffic(SCENARIOS["steady"], seed=3, start=1.79e9, rate=1000)
    lines = [message.value for message in traffic.runs(1_500)]
    path = tmp_path_factory.mktemp("recording") / "events.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path, traffic.truth


# -- lint --------------------------------------------------------------------------------------------------------------


def test_the_rules_of_the_project_have_no_findings(qethics):
    assert qethics("policy", "lint")[:2] == (0, "54 modules, 0 findings\n")


RULE = """# METADATA
# title: A rule
# description: Of a test.
# custom:
#   severity: low
#   owner: nobody
#   control: T-1
#   remediation: none
#   runbook: https://example.org/
package qethics.rules.run.other

import rego.v1

deny contains "x" if {
	BODY
}
"""


@pytest.mark.parametrize(
    ("body", "check"),
    [
        ("time.now_ns() > 3", "nondeterministic"),
        ('rand.intn("x", 3) > 1', "nondeterministic"),
        ('uuid.rfc4122("x") != ""', "nondeterministic"),
        ('http.send({"method": "get", "url": "http://127.0.0.1"}).status_code == 200', "nondeterministic"),
        ('opa.runtime().env.HOME == "/"', "nondeterministic"),
        ("walk(input, [path, value])\n\tcount(path) > 9", "unbounded-cost"),
        ('print("seen", input.run.tier)', "unbounded-cost"),
        (
            "some a in input.clear\n\tsome b in input.clear\n\tsome c in input.clear\n\tsome d in input.clear\n\t"
            "a.text == concat(b.text, [c.text, d.text])",
            "unbounded-cost",
        ),
        ("input.run.teir == 3", "unknown-input"),
        ("input.runs", "unknown-input"),
        ("data.endpionts", "unknown-data"),
        ("1 == 2", "constant-condition"),
        ("true", "constant-condition"),
        ('sprintf("%s and %s", [input.run.tier]) == ""', "sprintf"),
        ("input.run.canary == true\n}\n\nnobody_asks if {\n\tinput.run.canary == false", "unreachable"),
        ('input.run.canary == true\n}\n\ndeny contains "y" if input.run.canary\n\nx if {\n\tx', "deny-form"),
        ("input.run.canary ==", "parse"),
    ],
)
def test_lint_finds(qethics, policies, body, check):
    (policies / "rules" / "other.rego").write_text(RULE.replace("BODY", body))
    code, out, _ = qethics("policy", "lint", "--policies", policies, "--json")
    found = [finding for finding in json.loads(out)["findings"] if finding["check"] != "untested"]
    assert code == 1
    assert check in {finding["check"] for finding in found}
    assert all(finding["file"].endswith("other.rego") and finding["line"] >= 1 for finding in found)


@pytest.mark.parametrize("line", ["title", "description", "severity", "owner", "control", "remediation", "runbook"])
def test_lint_finds_missing_metadata(qethics, policies, line):
    text = [each for each in RULE.split("\n") if f" {line}:" not in each]
    (policies / "rules" / "other.rego").write_text("\n".join(text).replace("BODY", "input.run.canary == true"))
    code, out, _ = qethics("policy", "lint", "--policies", policies)
    assert code == 1
    assert f"other.rego:1: metadata: Object missing required field `{line}`" in out.replace(":2: ", ":1: ").replace(
        ":4: ", ":1: "
    )


def test_lint_measures_what_no_reading_finds(qethics, policies):
    loops = "".join(f"some {name} in input.clear\n\t" for name in "abc")
    slow = loops + 'contains(a.text, concat(b.text, [c.text, "never"]))'
    (policies / "rules" / "other.rego").write_text(RULE.replace("BODY", slow))
    code, out, _ = qethics("policy", "lint", "--policies", policies)
    assert code == 1
    assert "other.rego:1: unbounded-cost: over the heaviest document" in out


# -- test --------------------------------------------------------------------------------------------------------------


def test_the_tests_of_the_project_pass_and_cover_every_denial(qethics):
    code, out, _ = qethics("policy", "test", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["counts"]["pass"] > 100
    assert report["coverage"] >= 0.95
    assert all(clause["fired"] and clause["quiet"] for clause in report["clauses"])


def test_an_empty_run_fails(qethics, policies):
    assert qethics("policy", "test", "--run", "no_such_test")[0] == 1
    for path in (policies / "rules").glob("*_test.rego"):
        path.unlink()
    code, out, _ = qethics("policy", "test", "--policies", policies)
    assert code == 1
    assert "no test was run" in out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"shots": 2001', '"shots": 1999', "test_too_many: fail"),
        ("shots_range.deny == set()", "1 / 0", "error"),
        ("test_too_many", "todo_too_many", "no test sees it deny"),
        ("test_too_many", "untested", "no test sees it deny"),
    ],
)
def test_a_failure_an_error_and_a_denial_nobody_saw_fail(qethics, policies, old, new, said):
    path = policies / "rules" / "shots_range_test.rego"
    path.write_text(path.read_text().replace(old, new, 1))
    code, out, _ = qethics("policy", "test", "--policies", policies)
    assert code == 1
    assert said in out


def test_lines_nobody_reaches_fail(qethics, policies):
    dead = "\n".join(f"dead_{n} if {{\n\tinput.run.canary == true\n\tinput.run.tier\n}}\n" for n in range(40))
    (policies / "rules" / "lib.rego").open("a").write(dead)
    code, out, _ = qethics("policy", "test", "--policies", policies)
    assert code == 1
    assert "% of the lines are covered, 95% are asked for" in out


# -- check -------------------------------------------------------------------------------------------------------------


def test_recorded_events_get_the_verdicts_that_the_truth_says(qethics, recording):
    path, truth = recording
    code, out, _ = qethics("policy", "check", path, "--format", "json")
    found = json.loads(out)
    assert code == (1 if truth.violating_runs else 0) == 1
    assert found["judged"] == truth.runs
    assert found["denied"] == truth.violating_runs
    assert len(found["violations"]) == truth.violations
    lines = path.read_bytes().split(b"\n")
    for violation in found["violations"]:
        assert json.loads(lines[violation["line"] - 1])["run_id"] == violation["run_id"]


def test_a_compressed_recording_is_judged_alike(qethics, recording, tmp_path):
    path, _ = recording
    packed = tmp_path / "events.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    plain, compressed = (json.loads(qethics("policy", "check", p, "--format", "json")[1]) for p in (path, packed))
    for each in plain["violations"] + compressed["violations"]:
        del each["file"]
    assert plain == compressed


def manifest(tmp_path, **changes):
    document = yaml.safe_load((DEFAULT_DIRECTORY / "workloads" / "credit-scoring.yaml").read_text())
    for name, value in changes.items():
        document["routed" if name in {"endpoint", "provider", "region"} else "submitted"][name] = value
    path = tmp_path / "workload.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_manifests_of_the_project_may_run(qethics):
    assert qethics("policy", "check", *(DEFAULT_DIRECTORY / "workloads").glob("*.yaml"))[0] == 0


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"endpoint": "nowhere"}, "approved_endpoint"),
        ({"encrypted": False}, "encrypted_sensitive"),
        ({"subject_token": "ada@example.org"}, "no_clear_pii"),
        ({"consent": {"granted": True, "scopes": ["third-party-compute"]}}, "consent_scope"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_denied(qethics, tmp_path, changes, rule):
    code, out, _ = qethics("policy", "check", manifest(tmp_path, **changes))
    assert code == 1
    assert f" {rule}: " in out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("w.yaml", "submitted: {tier: hihg}", "w.yaml:1: submitted.tier: Invalid enum value 'hihg'"),
        ("w.yaml", "submitted:\n  tier: high\n  teir: low", "w.yaml:3: submitted.teir: there is no such field"),
        ("w.yaml", "submitted:\n  tier: high\n  tier: low", "w.yaml:3: tier: is there twice"),
        ("w.yaml", "submittd: {}", "submittd"),
        ("w.yaml", "a: [", "w.yaml:1"),
        ("w.jsonl", "", "holds nothing to judge"),
        ("w.jsonl", '{"type": "submitted"}', "w.jsonl:1: no event"),
        ("w.jsonl", "\n{no", "w.jsonl:2: no event"),
        ("w.jsonl", '{"run_id": "r", "type": "submitted"}', "an event that is none: missing_field"),
        ("w.jsonl.gz", "not gzip", "w.jsonl.gz"),
    ],
)
def test_what_cannot_be_judged_is_wrong_use_and_named(qethics, tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    code, _, err = qethics("policy", "check", tmp_path / name)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_warnings_are_told_and_deny_nothing(qethics, policies, tmp_path):
    path = policies / "governance.yaml"
    path.write_text(path.read_text().replace("modes: {}", "modes: {encrypted_sensitive: warn}"))
    code, out, _ = qethics("policy", "check", "--policies", policies, manifest(tmp_path, encrypted=False))
    assert code == 0
    assert "warn high encrypted_sensitive" in out


def test_a_mode_for_a_rule_that_is_none_is_named_with_its_line(qethics, policies):
    path = policies / "governance.yaml"
    path.write_text(path.read_text().replace("modes: {}", "modes:\n  encrypted: warn"))
    code, _, err = qethics("policy", "test", "--policies", policies)
    line = path.read_text().split("\n").index("  encrypted: warn") + 1
    assert code == 2
    assert f"governance.yaml:{line}: modes.encrypted: there is no such rule" in err


def test_junit_has_a_case_for_each_run_and_a_failure_for_each_denied(qethics, recording):
    path, truth = recording
    suite = ElementTree.fromstring(  # noqa: S314 - our own
        qethics("policy", "check", path, "--format", "junit")[1]
    )
    assert len(suite.findall("testcase")) == int(suite.get("tests")) == truth.runs
    assert len(suite.findall("testcase/failure")) == int(suite.get("failures")) == truth.violating_runs


def test_sarif_names_every_rule_and_place(qethics, recording):
    path, truth = recording
    document = json.loads(qethics("policy", "check", path, "--format", "sarif")[1])
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert document["version"] == "2.1.0"
    assert len(run["results"]) == truth.violations
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == str(path)
        assert place["region"]["startLine"] >= 1


# -- explain and diff --------------------------------------------------------------------------------------------------


def test_an_explanation_names_the_facts_and_what_would_change_the_answer(qethics, tmp_path):
    path = manifest(tmp_path, shots=100)
    code, out, _ = qethics("policy", "explain", path, "--json")
    (found,) = json.loads(out)["explanations"]
    assert code == 1
    assert found["rule"] == "shots_range"
    assert found["facts"] == {"run.runtime": "hybrid", "run.shots": 100, "run.tier": "high"}
    assert {"facts": {"run.shots": 500}, "instead": []} in found["changes"]
    for change in found["changes"]:
        changed = {name.partition(".")[2]: value for name, value in change["facts"].items()}
        again = json.loads(
            qethics("policy", "check", manifest(tmp_path, **{"shots": 100, **changed}), "--format", "json")[1]
        )
        rules = {violation["rule"] for violation in again["violations"]}
        assert "shots_range" not in rules
        assert rules == set(change["instead"])


CLEAR = {"subject_token": "ada@example.org"}


def test_an_explanation_does_not_write_personal_data_down_again(qethics, tmp_path):
    _, out, _ = qethics("policy", "explain", manifest(tmp_path, **CLEAR))
    assert "no_clear_pii" in out
    assert "ada@" not in out


def test_a_run_that_is_not_there_is_wrong_use(qethics, recording):
    assert qethics("policy", "explain", recording[0], "no-such-run")[0] == 2


def test_diff_names_exactly_the_runs_whose_verdict_changes(qethics, policies, recording):
    path, _ = recording
    assert qethics("policy", "diff", DEFAULT_DIRECTORY, policies, path)[0] == 0
    governance = policies / "governance.yaml"
    governance.write_text(
        governance.read_text()
        .replace("modes: {}", "modes: {explained: warn}")
        .replace("purposes: [", "purposes: [bidding, ")
    )
    code, out, _ = qethics("policy", "diff", DEFAULT_DIRECTORY, policies, path, "--json")
    report = json.loads(out)
    bids = {json.loads(line)["run_id"] for line in path.read_bytes().split(b"\n") if b'"purpose":"bidding"' in line}
    assert code == 1
    assert {change["run"] for change in report["changed"] if change["new"]} >= bids
    assert report["newly_denied"] == len(bids)
    assert all(change["new"] == [] for change in report["changed"] if change["run"] not in bids)


# -- as others run it --------------------------------------------------------------------------------------------------


def test_the_workflow_runs_as_it_is_written(tmp_path):
    """Every step of the workflow that runs the gate, by the shell, in this checkout."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "policy.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "qethics" in step.get("run", "")]
    assert len(steps) == 3
    command = f"{sys.executable} -m app"
    for step in steps:
        text = step.replace(".venv/bin/qethics", command).replace("> policy.sarif", f"> {tmp_path}/policy.sarif")
        done = subprocess.run(["bash", "-ec", text], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "policy.sarif").read_text())["version"] == "2.1.0"


def test_the_hooks_name_commands_that_there_are(qethics):
    hooks = yaml.safe_load(Path(ROOT / ".pre-commit-hooks.yaml").read_text())
    for hook in hooks:
        files = sorted((DEFAULT_DIRECTORY / "workloads").glob("*.yaml")) if hook.get("pass_filenames", True) else []
        _, *arguments = hook["entry"].split()
        assert qethics(*arguments, "--policies", DEFAULT_DIRECTORY, *files)[0] == 0
