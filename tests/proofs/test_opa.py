"""The same rule files give the same verdicts in OPA itself."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from signing import built, changed, key_pair

from app.catalog import DEFAULT_DIRECTORY
from app.core import facts
from app.core.facts import Document
from app.core.obedience import Finding
from app.policy import bundle as bundles
from app.policy import lint
from app.policy.pack import load_pack, load_policy

pytestmark = pytest.mark.once

OPA = "github.com/open-policy-agent/opa@v1.2.0"
DOCUMENTS = 10_000 if os.environ.get("PROVE") == "full" else 2_000
ASKED = "[decision | some document in data.corpus; decision := data.qethics.decision with input as document]"


@pytest.fixture(scope="session")
def opa():
    go = shutil.which("go") or "/usr/local/go/bin/go"
    path = Path(subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip())
    binary = path / "bin" / "opa"
    if not binary.exists():
        subprocess.run([go, "install", OPA], check=True)
    return binary


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("opa") / "data.json"
    path.write_bytes(msgspec.json.encode(load_pack().data))
    return path


def corpus(count):
    """Documents whose every field is now something the rules know, now something they do not, now unknown."""
    rng, known = random.Random(17), load_pack().data
    values = {
        "workload": [*known["workloads"], "other"],
        "purpose": ["credit-decision", "routing", "bidding", *known["forbidden_purposes"], "other"],
        "tier": known["tiers"],
        "sensitivity": known["sensitivities"],
        "runtime": ["classical", "quantum", "hybrid"],
        "submitter": ["svc", ""],
        "cost_center": [*known["cost_centers"], "other"],
        "consent": [{"granted": granted, "scopes": scopes} for granted in (True, False) for scopes in _SCOPES],
        "shots": [1, 99, 100, 499, 500, 10**6, 10**6 + 1, 2**31],
        "canary_share": [0, 0.05, 0.050001, 0.2, 0.5, 1],
        "fallback": ["classical", "quantum"],
        "material": [list(facts.MATERIAL), list(facts.MATERIAL[:3]), []],
        "estimated_cost_usd": [0, 10, 10.01, 50, 50.0, 50.01, -1, 1e6],
        "provider": ["ibm", "aws-braket", "onprem", "other"],
        "endpoint": [*known["endpoints"], "other", ""],
        "region": ["us-east", "eu-de", "us-west-1", "onprem", "other"],
        "backend": ["ibm_fez"],
        "answer": ["allow", "deny", "fallback_classical"],
        "gate": [[], *([finding] for finding in get_args(Finding)), ["denied", "unasked"]],
        "calibration_age_hours": [-3, 0, 47, 48, 49, 168, 169],
    }
    flags = {
        "encrypted",
        "canary",
        "tokenised",
        "explained",
        "acted_on",
        "routed",
        "admitted",
        "decided",
        "signed",
        "rejected",
        "completed",
        "billed",
        "reviewed_first",
    }
    for _ in range(count):
        document = {"judging": [part for part in facts.JUDGING if rng.random() < 0.6]}
        for part, kind in (
            ("run", facts.RunFacts),
            ("routing", facts.RoutingFacts),
            ("decision", facts.DecisionFacts),
            ("outcome", facts.OutcomeFacts),
        ):
            document[part] = {
                name: rng.choice([True, False] if name in flags else values.get(name, [None]))
                for name in kind.__struct_fields__
                if rng.random() < 0.85
            }
        if rng.random() < 0.2:
            document["clear"] = [{"field": "error", "text": rng.choice(_TEXTS)} for _ in range(2)]
        yield msgspec.json.encode(msgspec.convert(document, Document))
    yield lint.heaviest()


_SCOPES = [[], ["credit-decision"], ["routing", "third-party-compute"], ["credit-decision", "third-party-compute"]]
_TEXTS = ["a@b.c", "a@b", "@", "4111111111111111", "x4111 1111 1111 1111y", "078-05-1120", "1078-05-11201", "9" * 20]


def test_opa_and_our_engine_give_the_same_decisions(opa, data, tmp_path, capsys):
    documents = list(corpus(DOCUMENTS))
    asked = tmp_path / "corpus.json"
    asked.write_bytes(b'{"corpus": [' + b",".join(documents) + b"]}")
    done = subprocess.run(
        [opa, "eval", "-d", DEFAULT_DIRECTORY / "rules", "-d", data, "-d", asked, "-f", "json", ASKED],
        capture_output=True,
        check=True,
    )
    (theirs,) = json.loads(done.stdout)["result"][0]["expressions"]
    policy = load_policy()
    denied = 0
    assert len(theirs["value"]) == len(documents)
    for document, their in zip(documents, theirs["value"], strict=True):
        our = json.loads(policy.evaluate(document))
        for decision in (our, their):
            decision["violations"].sort(key=lambda each: (each["rule"], each["reason"]))
        assert our == their, document
        denied += not our["allow"]
    assert denied > len(documents) / 2
    assert denied < len(documents)
    with capsys.disabled():
        sys.stdout.write(f"\nOPA agrees on {len(documents)} documents, {denied} of them denied\n")


def test_the_tests_of_the_rules_pass_in_opa_as_well(opa, data):
    done = subprocess.run(
        [opa, "test", "--format", "json", DEFAULT_DIRECTORY / "rules", data], capture_output=True, check=False
    )
    results = json.loads(done.stdout)
    assert done.returncode == 0
    assert len(results) > 100
    assert not [each["name"] for each in results if each.get("fail") or each.get("error")]


def test_opa_takes_the_rules_in_strict_mode(opa):
    done = subprocess.run(
        [opa, "check", "--strict", DEFAULT_DIRECTORY / "rules"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_opa_itself_verifies_our_bundles_and_refuses_what_was_tampered_with(opa, tmp_path):
    pair = key_pair(tmp_path)
    path = tmp_path / "bundle.tar.gz"
    good = built(DEFAULT_DIRECTORY, pair, 5)
    (key_id,) = bundles.read_keys(pair.public)
    command = [opa, "build", "-b", path, "-o", tmp_path / "out.tar.gz", "--signing-alg", "ES256"]
    command += ["--verification-key", pair.public, "--verification-key-id", key_id]
    tampered = {
        "not at all": good,
        "a rule": changed(good, **{"rules/lib.rego": b"package qethics.lib\n"}),
        "an extra file": changed(good, **{"rules/extra.rego": b"package extra\n"}),
        "data": changed(good, **{"data.json": b"{}"}),
        "no signature": changed(good, **{".signatures.json": None}),
    }
    for name, data in tampered.items():
        path.write_bytes(data)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (name == "not at all"), (name, done.stderr)


def test_a_bundle_judges_in_opa_as_it_judges_here(opa, policy, tmp_path):
    path, asked = tmp_path / "bundle.tar.gz", tmp_path / "input.json"
    path.write_bytes(built(DEFAULT_DIRECTORY, key_pair(tmp_path), 5))
    document = msgspec.json.encode(Document(judging=("run", "routing")))
    asked.write_bytes(document)
    command = [opa, "eval", "-b", path, "-i", asked, "--format", "raw", "data.qethics.decision"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ours = json.loads(policy.evaluate(document))
    assert said["allow"] is ours["allow"] is False
    assert sorted(map(str, said["violations"])) == sorted(map(str, ours["violations"]))
