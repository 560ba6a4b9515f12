"""Kubernetes' own types (k8s.io/api/admission/v1) send the reviews and take the answers."""

import asyncio
import json
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from asking import ROUTING, post
from cluster import Cluster
from records import SUBMITTED
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY
from app.conventions import ADMISSIONS

pytestmark = pytest.mark.broker

PROGRAM = Path(__file__).parent.parent / "kubernetes"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The program with the published types."""
    binary = tmp_path_factory.mktemp("go") / "reviews"
    go = shutil.which("go") or "/usr/local/go/bin/go"
    subprocess.run([go, "build", "-o", binary, "."], cwd=PROGRAM, check=True)
    return binary


@pytest.fixture(scope="module")
def deployment(bootstrap, tmp_path_factory):
    directory = tmp_path_factory.mktemp("gate")
    pair, bundle = key_pair(directory), directory / "bundle.tar.gz"
    policies = shutil.copytree(DEFAULT_DIRECTORY, directory / "rules")
    governance = policies / "governance.yaml"
    governance.write_text(governance.read_text().replace("modes: {}", "modes: {canary_share: warn}"))
    bundle.write_bytes(built(policies, pair, 5))
    made = Cluster(bootstrap, directory, policy_bundle=bundle, policy_keys=pair.public)
    asyncio.run(made.topics())
    made.gate()
    yield made
    made.end()


def annotations(run_id, routing=ROUTING, **fields):
    run = {**SUBMITTED, **fields, "run_id": run_id}
    return {"qethics-run": json.dumps(run)} | ({"qethics-routing": json.dumps(routing)} if routing else {})


CASES = {
    "good": ({"annotations": annotations("k8s-good")}, True, None),
    "canary": ({"annotations": annotations("k8s-canary", canary=True, canary_share=0.9)}, True, None),
    "few shots": ({"annotations": annotations("k8s-few", shots=1)}, False, 403),
    "fallback": ({"annotations": annotations("k8s-fall", shots=1, fallback="classical")}, False, 403),
    "no annotation": ({"annotations": {}}, False, 422),
    "no JSON": ({"annotations": {"qethics-run": "{"}}, False, 422),
    "no such field": ({"annotations": annotations("k8s-field", mood=1)}, False, 422),
    "dry run": ({"annotations": annotations("k8s-dry", shots=1), "dry_run": True}, False, 403),
    "delete": ({"annotations": annotations("k8s-gone", shots=1), "operation": "DELETE"}, True, None),
    "update": ({"annotations": annotations("k8s-update"), "operation": "UPDATE"}, True, None),
}


def test_reviews_of_the_published_types_are_answered_in_them(published, deployment, tmp_path):
    uids = {name: str(uuid.uuid4()) for name in CASES}
    asked = [{"uid": uids[name], "operation": "CREATE", **case} for name, (case, _, _) in CASES.items()]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(asked))
    made = subprocess.run([published, "requests", path], capture_output=True, text=True, check=True)
    answers = []
    for line in made.stdout.splitlines():
        status, answer = post(deployment.gates[0], "/v1/admission-review", line.encode())
        assert status == 200, answer
        answers.append(answer)
    read = subprocess.run(
        [published, "responses"],
        input="".join(json.dumps(answer) + "\n" for answer in answers),
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    found = dict(zip(CASES, map(json.loads, read.stdout.splitlines()), strict=True))
    for name, (_, allowed, code) in CASES.items():
        response = found[name]["response"]
        assert (response["uid"], response["allowed"]) == (uids[name], allowed), name
        assert (response.get("status") or {}).get("code") == code, name
    assert found["canary"]["response"]["warnings"][0].startswith("canary_share (warn): ")
    assert "shots_range" in found["few shots"]["response"]["status"]["message"]
    assert "the classical path is allowed" in found["fallback"]["response"]["status"]["message"]
    assert found["fallback"]["response"]["auditAnnotations"]["answer"] == "fallback_classical"
    assert "mood" in found["no such field"]["response"]["status"]["message"]

    records = {record["run_id"]: record for record in asyncio.run(deployment.values(ADMISSIONS))}
    assert set(records) == {"k8s-good", "k8s-canary", "k8s-few", "k8s-fall", "k8s-update"}
    assert records["k8s-good"]["requested_by"] == "system:serviceaccount:quantum:runner"


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"apiVersion": "admission.k8s.io/v1beta1"}, "'admission.k8s.io/v1beta1' is not known"),
        ({"apiVersion": "admission.k8s.io/v2"}, "'admission.k8s.io/v2' is not known"),
        ({"kind": "SubjectAccessReview"}, "'SubjectAccessReview' is not AdmissionReview"),
        ({"request": None}, "Expected `object`"),
        ({"request": {"uid": 7, "operation": "CREATE"}}, "Expected `str`"),
        ({"request": {"uid": "u", "operation": "DANCE"}}, "Invalid enum value"),
    ],
)
def test_what_is_no_review_of_version_one_is_refused_clearly(deployment, change, detail):
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u"}, **change}
    status, problem = post(deployment.gates[0], "/v1/admission-review", review)
    assert status == 400
    assert detail in problem["detail"]
