"""The gate as its callers see it: over HTTP, for Kubernetes, over Kafka, and what it leaves on record."""

import asyncio
import json
import shutil
import ssl
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import msgspec
import pytest
from asking import ROUTING, ask, post, question
from cluster import Cluster
from command import qethics
from signing import built, key_pair, self_signed

from app import kafka
from app.catalog import DEFAULT_DIRECTORY
from app.contract import schema
from app.conventions import ADMISSION_REPLIES, ADMISSION_REQUESTS, ADMISSIONS, DEAD_LETTER, DIRECTIVES
from app.core.evidence import instant
from app.core.outcomes import Directive

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def deployment(bootstrap, tmp_path_factory, pair):
    """One deployment with one gate for the tests that do not hurt it."""
    directory = tmp_path_factory.mktemp("gate")
    bundle = directory / "bundle.tar.gz"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 5))
    made = Cluster(bootstrap, directory, policy_bundle=bundle, policy_keys=pair.public, policy_seconds=0.2)
    asyncio.run(made.topics())
    made.gate()
    yield made
    made.end()


@pytest.fixture
def gate(deployment):
    return deployment.gates[0]


def recorded(deployment):
    return {value["run_id"]: value for value in asyncio.run(deployment.values(ADMISSIONS))}


def order(deployment, directive, target, seconds=600.0):
    """Write a directive as a worker does; or lift it."""

    async def write():
        producer = await kafka.connected(kafka.producer(deployment.settings), deployment.settings)
        now = time.time()
        value = Directive(
            directive_id=uuid.uuid4().hex,
            directive=directive,
            target=target,
            reason=f"{target} is out of bounds",
            issued_at=instant(now),
            expires_at=instant(now + seconds),
        )
        topic = deployment.settings.topic(DIRECTIVES)
        body = msgspec.json.encode(value) if seconds else None
        try:
            await producer.send_and_wait(topic, body, key=f"{directive}/{target}".encode())
        finally:
            await producer.stop()

    asyncio.run(write())


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_run_that_breaks_no_rule_is_allowed_and_on_record_before_the_answer(deployment, gate):
    answer = ask(gate, run_id="run-good")
    assert (answer["answer"], answer["reasons"], answer["directives"]) == ("allow", [], [])
    record = recorded(deployment)["run-good"]
    assert record["decision_id"] == answer["decision_id"]
    assert (record["answer"], record["requested_by"], record["req_id"]) == (
        "allow",
        "scheduler-1",
        answer["request_id"],
    )
    assert record["bundles"]["qethics"]["digest"] == answer["bundle_digest"]
    jsonschema.validate(record, schema(ADMISSIONS))


def test_a_run_that_breaks_a_rule_is_denied_with_what_to_do_about_it(gate):
    answer = ask(gate, shots=1)
    assert answer["answer"] == "deny"
    (reason,) = answer["reasons"]
    assert (reason["rule"], reason["mode"], reason["severity"]) == ("shots_range", "enforce", "medium")
    assert reason["remediation"]
    assert reason["runbook"] == "docs/policy.md#shots_range"


def test_a_run_that_may_not_go_there_falls_back_if_it_can(gate):
    nowhere = {**ROUTING, "endpoint": "nowhere"}
    assert ask(gate, routing=nowhere)["answer"] == "deny"
    assert ask(gate, routing=nowhere, fallback="classical")["answer"] == "fallback_classical"
    # What is wrong with the run itself is wrong with it on the classical path as well.
    assert ask(gate, routing=nowhere, fallback="classical", encrypted=False, sensitivity="pii")["answer"] == "deny"
    # Too few shots are no matter there.
    assert ask(gate, fallback="classical", shots=1)["answer"] == "fallback_classical"


def test_personal_data_in_a_request_is_denied_and_not_recorded(deployment, gate):
    answer = ask(gate, run_id="run-clear", feature="zoe@example.org")
    assert [reason["rule"] for reason in answer["reasons"]] == ["no_clear_pii"]
    record = recorded(deployment)["run-clear"]
    assert record["masked"] == ["/input/run/feature", "/input/clear/0/text"]
    assert record["input"]["run"]["feature"] == "xxx@xxxxxxx.xxx"
    assert record["input"]["clear"] == [{"field": "feature", "text": "xxx@xxxxxxx.xxx"}]


def test_a_dry_run_is_answered_and_nothing_is_written(deployment, gate):
    before = sum(map(len, asyncio.run(deployment.read(ADMISSIONS)).values()))
    answer = ask(gate, run_id="run-dry", dry_run=True, shots=1)
    assert (answer["answer"], answer["dry_run"]) == ("deny", True)
    assert sum(map(len, asyncio.run(deployment.read(ADMISSIONS)).values())) == before


def test_the_same_question_is_the_same_decision(gate):
    asked = question()
    first, second = (post(gate, "/v1/admission", asked)[1] for _ in range(2))
    assert first["decision_id"] == second["decision_id"]


def test_the_records_of_the_gate_replay_to_identical_bytes(deployment, gate, pair, tmp_path):
    order(deployment, "freeze_offload", "logistics")
    await_answer(gate, "fallback_classical", fallback="classical", dry_run=True)
    for fields in (
        {},
        {"shots": 1},
        {"shots": 1, "fallback": "classical"},
        {"feature": "zoe@example.org"},
        {"fallback": "classical"},
        {"routing": None, "runtime": "classical"},
    ):
        ask(gate, **fields)
    path = tmp_path / "admissions.jsonl"
    lines = [record.value for records in asyncio.run(deployment.read(ADMISSIONS)).values() for record in records]
    path.write_bytes(b"\n".join(lines) + b"\n")
    done = qethics(
        "policy",
        "replay",
        str(path),
        "--bundle",
        str(deployment.settings.policy_bundle),
        "--keys",
        str(pair.public),
        "--json",
    )
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["identical"] == len(lines) >= 6
    order(deployment, "freeze_offload", "logistics", 0)
    await_answer(gate, "allow", dry_run=True)


# -- what is refused ---------------------------------------------------------------------------------------------------

MIB = 2**20


def padded(size):
    """A request of so many bytes."""
    body = json.dumps(question(dry_run=True)).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "detail"),
    [
        ("/v1/admission", b"{", {}, 400, "no admission request"),
        ("/v1/admission", b"[]", {}, 400, "no admission request"),
        ("/v1/admission", b"\xff", {}, 400, "JSON is UTF-8"),
        ("/v1/admission", json.dumps({**question(), "mood": 1}).encode(), {}, 400, "mood"),
        ("/v1/admission", json.dumps(question(tier="top")).encode(), {}, 400, "$.run.tier"),
        ("/v1/admission", json.dumps(question(run_id="x" * 129)).encode(), {}, 400, "$.run_id"),
        ("/v1/admission", b"[" * 65 + b"]" * 65, {}, 400, "nesting above 64"),
        ("/v1/admission", b"{}", {"Content-Type": "text/plain"}, 415, "text/plain"),
        ("/v1/admission", padded(MIB + 1), {}, 413, "more than 1048576 bytes"),
        ("/v1/admission-review", b"{}", {"Content-Type": "application/yaml"}, 415, "application/yaml"),
        ("/v1/admission-review", padded(MIB + 1), {}, 413, "more than 1048576 bytes"),
        ("/v1/nothing", b"{}", {}, 404, "Not Found"),
    ],
)
def test_what_is_no_request_is_refused_clearly(gate, path, body, headers, status, detail):
    code, problem = post(gate, path, body, headers)
    assert (code, problem["status"]) == (status, status)
    assert detail in problem["detail"]


def test_an_annotation_that_is_nested_too_deeply_is_not_admitted(gate):
    deep = "[" * 100_000 + "]" * 100_000
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "operation": "CREATE",
            "object": {"metadata": {"annotations": {"qethics-run": deep}}},
        },
    }
    status, answer = post(gate, "/v1/admission-review", review)
    assert (status, answer["response"]["allowed"]) == (200, False)
    assert "nested too deeply" in answer["response"]["status"]["message"]


def test_the_trace_of_a_request_is_on_its_record(deployment, gate):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert post(gate, "/v1/admission", question("run-traced"), headers)[0] == 200
    assert recorded(deployment)["run-traced"]["trace_id"] == trace


def test_a_directive_that_cannot_be_read_ends_no_gate(deployment, gate):
    async def write():
        producer = await kafka.connected(kafka.producer(deployment.settings), deployment.settings)
        topic = deployment.settings.topic(DIRECTIVES)
        for value in (b"", b"{", b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b"null"):
            await producer.send_and_wait(topic, value, key=b"bad/bad")
        await producer.stop()

    asyncio.run(write())
    deployment.await_(lambda: "qethics_directives_unreadable_total 4.0" in gate.page("/metrics"), 10, "counted")
    assert ask(gate, dry_run=True)["answer"] == "allow"


def test_a_mebibyte_is_taken(gate):
    assert post(gate, "/v1/admission", padded(MIB))[0] == 200


# -- directives --------------------------------------------------------------------------------------------------------


def await_answer(gate, wanted, seconds=5.0, **fields):
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        answer = ask(gate, **fields)
        if answer["answer"] == wanted:
            return answer, time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"not {wanted} within {seconds} s: {answer}")


@pytest.mark.parametrize(
    ("directive", "target", "fields", "answer"),
    [
        ("disable_routing", "ibm-us-east/quantum", {}, "deny"),
        ("disable_routing", "ibm-us-east/quantum", {"fallback": "classical"}, "fallback_classical"),
        ("fallback_classical", "route-planning", {"fallback": "classical"}, "fallback_classical"),
        ("fallback_classical", "ibm_fez", {"fallback": "classical"}, "fallback_classical"),
        ("fallback_classical", "route-planning", {}, "deny"),
        ("freeze_offload", "logistics", {"fallback": "classical"}, "fallback_classical"),
        ("freeze_offload", "logistics", {}, "deny"),
        ("rollback_canary", "route-planning", {"canary": True, "canary_share": 0.05, "fallback": "classical"}, "deny"),
    ],
)
def test_a_directive_is_obeyed_within_a_second_and_no_longer_than_it_is_lifted(
    deployment, gate, directive, target, fields, answer
):
    assert ask(gate, dry_run=True, **fields)["answer"] == "allow"
    order(deployment, directive, target)
    obeyed, took = await_answer(gate, answer, dry_run=True, **fields)
    assert took < 1.0
    assert [(each["directive"], each["target"]) for each in obeyed["directives"]] == [(directive, target)]
    assert "out of bounds" in obeyed["directives"][0]["reason"]
    order(deployment, directive, target, 0)
    _, took = await_answer(gate, "allow", dry_run=True, **fields)
    assert took < 1.0


def test_a_directive_ends_by_itself_when_it_expires(deployment, gate):
    order(deployment, "disable_routing", "ibm-us-east/quantum", 1.5)
    await_answer(gate, "deny", dry_run=True)
    answer, took = await_answer(gate, "allow", dry_run=True)
    assert answer["directives"] == []
    assert took < 2.5


def test_what_concerns_another_run_is_not_in_its_way(deployment, gate):
    for directive, target in (
        ("disable_routing", "braket-us-west-1"),
        ("freeze_offload", "lending"),
        ("rollback_canary", "route-planning"),
        ("fallback_classical", "credit-scoring"),
        ("dance", "route-planning"),
    ):
        order(deployment, directive, target, 5.0)
    deployment.await_(lambda: len(json.loads(gate.page("/v1/directives"))["directives"]) >= 5, 5, "read")
    assert ask(gate, dry_run=True)["answer"] == "allow"
    for directive, target in (("rollback_canary", "route-planning"), ("dance", "route-planning")):
        order(deployment, directive, target, 0)


def test_classical_runs_are_not_kept_from_classical_computers(deployment, gate):
    order(deployment, "freeze_offload", "logistics", 5.0)
    await_answer(gate, "deny", dry_run=True)
    assert ask(gate, dry_run=True, runtime="classical", routing=None)["answer"] == "allow"
    order(deployment, "freeze_offload", "logistics", 0)
    await_answer(gate, "allow", dry_run=True)


# -- Kafka -------------------------------------------------------------------------------------------------------------


def exchange(deployment, values, wanted):
    """Send requests and read so many replies: the number of each request, and its reply."""
    unique = uuid.uuid4().hex

    async def run():
        settings = deployment.settings
        consumer = await kafka.connected(kafka.consumer(settings, settings.topic(ADMISSION_REPLIES)), settings)
        producer = await kafka.connected(kafka.producer(settings), settings)
        try:
            for number, value in enumerate(values):
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                headers = [("correlation-id", f"{unique}/{number}".encode())]
                topic = settings.topic(ADMISSION_REQUESTS)
                await producer.send_and_wait(topic, body, key=f"key-{number}".encode(), headers=headers)
            found = {}
            async with asyncio.timeout(30):
                while len(found) < wanted:
                    record = await consumer.getone()
                    about, _, number = dict(record.headers)["correlation-id"].decode().partition("/")
                    if about == unique:
                        found[number] = json.loads(record.value)
            return found
        finally:
            await producer.stop()
            await consumer.stop()

    return asyncio.run(run())


def relayed(deployment):
    """Wait until a gate has the partitions of the requests: what was asked before is told to ask again."""

    def answered():
        (reply,) = exchange(deployment, [question(dry_run=True)], 1).values()
        return reply["answer"] == "allow"

    deployment.await_(answered, 60, "a gate that answers over Kafka")


def test_a_scheduler_without_http_asks_over_kafka(deployment, gate):
    relayed(deployment)
    asked = [question(f"kafka-{number}", shots=None if number % 2 == 0 else 1) for number in range(6)]
    for number in (0, 2, 4):
        asked[number]["run"]["shots"] = 1000
    replies = exchange(deployment, [*asked, b"{bad"], 7)
    assert [replies[str(number)]["answer"] for number in range(6)] == ["allow", "deny"] * 3
    assert replies["0"]["request_id"] == asked[0]["request_id"]
    assert replies["6"]["answer"] == "deny"
    assert "no admission request" in replies["6"]["error"]
    records = recorded(deployment)
    assert {f"kafka-{number}" for number in range(6)} <= set(records)
    letters = [record for records in asyncio.run(deployment.read(DEAD_LETTER)).values() for record in records]
    assert b"{bad" in {letter.value for letter in letters}


def test_requests_are_answered_while_gates_come_and_go(own):
    """A second gate takes its share, the first is killed, and whoever asks meanwhile is answered or may ask again."""
    own.gate()
    relayed(own)
    replies = exchange(own, [question(dry_run=True) for _ in range(5)], 5)
    own.gate()
    replies |= {
        f"2-{key}": value for key, value in exchange(own, [question(dry_run=True) for _ in range(20)], 20).items()
    }
    own.gates[0].end()
    own.await_(lambda: len(exchange(own, [question(dry_run=True) for _ in range(20)], 20)) == 20, 60, "every reply")
    assert all(reply["answer"] == "allow" or "ask again" in reply["error"] for reply in replies.values())
    assert any(reply["answer"] == "allow" for reply in replies.values())
    assert own.gates[1].alive


# -- the gate itself ---------------------------------------------------------------------------------------------------


@pytest.fixture
def own(bootstrap, tmp_path, pair):
    """A deployment of its own, to hurt."""
    bundle = tmp_path / "bundle.tar.gz"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 5))
    made = Cluster(bootstrap, tmp_path, policy_bundle=bundle, policy_keys=pair.public, policy_seconds=0.2)
    asyncio.run(made.topics())
    yield made
    made.end()


def replace(path, content):
    partial = path.with_name("partial")
    partial.write_bytes(content)
    partial.replace(path)


def test_a_gate_without_a_verified_bundle_is_not_ready_and_becomes_so(own, pair):
    bundle = own.settings.policy_bundle
    good = bundle.read_bytes()
    bundle.write_bytes(good[:-10])
    gate = own.gate(ready=False)
    own.await_(lambda: gate.page("/healthz") == "ok\n", 20, "there")
    own.await_(lambda: "qethics_policy_source_refused 1.0" in gate.page("/metrics"), 20, "refused")
    status, problem = post(gate, "/v1/admission", question())
    assert (status, problem["detail"]) == (503, "no verified policy bundle is loaded")
    replace(bundle, good)
    own.await_(lambda: gate.page("/readyz") == "ready\n", 20, "ready")
    assert ask(gate)["answer"] == "allow"
    replace(bundle, good[:-10])
    own.await_(lambda: "qethics_policy_source_refused 1.0" in gate.page("/metrics"), 20, "refused")
    assert ask(gate)["answer"] == "allow", "the old one stays"


def test_a_token_is_asked_for_where_one_is_set_and_tls_is_served(own, tmp_path):
    token, key, certificate = (tmp_path / name for name in ("token", "tls.key", "tls.crt"))
    token.write_text("s3cret-token\n")
    self_signed(key, certificate)
    gate = own.gate(QETHICS_ADMISSION_TOKEN_FILE=str(token))
    for headers in ({}, *({"Authorization": f"Bearer {text}"} for text in ("wrong", "", "\xff", "s3cret-toke"))):
        status, problem = post(gate, "/v1/admission", question(), headers)
        assert (status, problem["detail"]) == (401, "the bearer token is missing or wrong")
        assert post(gate, "/v1/admission-review", b"{}", headers)[0] == 401
    assert post(gate, "/v1/admission", question(), {"Authorization": "Bearer s3cret-token"})[0] == 200
    assert "s3cret" not in gate.log.read_text()

    files = {"QETHICS_ADMISSION_CERT_FILE": str(certificate), "QETHICS_ADMISSION_KEY_FILE": str(key)}
    secure = own.gate(ready=False, **files)
    context = ssl.create_default_context(cafile=certificate)
    own.await_(lambda: "the gate answers at https://" in secure.log.read_text(), 20, "served")

    def asked():
        return post(secure, "/v1/admission", question(), scheme="https", context=context)

    own.await_(lambda: asked()[0] == 200, 20, "the secure gate ready")
    assert asked()[1]["answer"] == "allow"


LOOP = """# METADATA
# title: Loops
# description: For well over ten seconds, where a run asks for it.
# custom: {severity: low, owner: nobody, control: T-1, remediation: none, runbook: "https://example.org/"}
package qethics.rules.run.loops

import rego.v1

deny contains "found" if {
	input.run.feature == "loop"
	some a in numbers.range(1, 5000)
	some b in numbers.range(1, 5000)
	a * b == 26000000
}
"""


@pytest.mark.parametrize("fail_open", [False, True])
def test_a_rule_that_gives_no_answer_denies_unless_it_may_fail_open(own, pair, tmp_path, fail_open):
    directory = shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "rules" / "policies")
    (directory / "rules" / "loops.rego").write_text(LOOP)
    if fail_open:
        governance = directory / "governance.yaml"
        governance.write_text(governance.read_text().replace("fail_open: []", "fail_open: [loops]"))
    replace(own.settings.policy_bundle, built(directory, pair, 6))
    gate = own.gate()
    began = time.monotonic()
    answer = ask(gate, feature="loop")
    assert time.monotonic() - began < 2
    if fail_open:
        assert (answer["answer"], answer["failed_open"]) == ("allow", ["loops"])
    else:
        assert answer["answer"] == "deny"
        assert answer["reasons"][0]["rule"] == "policy_error"
        assert "no decision within" in answer["reasons"][0]["reason"]
    assert ask(gate)["answer"] == "allow", "it goes on"


def test_what_is_too_much_at_once_is_told_at_once(own, pair, tmp_path):
    directory = shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "rules" / "policies")
    (directory / "rules" / "loops.rego").write_text(LOOP)
    replace(own.settings.policy_bundle, built(directory, pair, 6))
    gate = own.gate(QETHICS_ADMISSION_CONCURRENCY="2")

    def one(number):
        began = time.monotonic()
        status, _ = post(gate, "/v1/admission", question(feature="loop", shots=1000 + number))
        return status, time.monotonic() - began

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(16)))
    assert {status for status, _ in found} == {200, 429}
    assert sum(status == 200 for status, _ in found) >= 2
    assert max(took for status, took in found if status == 429) < 0.5
    assert "qethics_admission_refused_total" in gate.page("/metrics")


def test_an_answer_that_cannot_be_recorded_is_deny(own):
    """The broker goes away under the gate."""
    from app.broker import embedded_broker  # noqa: PLC0415 - a broker to end

    with embedded_broker() as address:
        other = Cluster(
            address,
            own.directory / "other",
            policy_bundle=own.settings.policy_bundle,
            policy_keys=own.settings.policy_keys,
        )
        try:
            asyncio.run(other.topics())
            gate = other.gate()
            assert ask(gate)["answer"] == "allow"
        except BaseException:
            other.end()
            raise
    try:
        began = time.monotonic()
        answer = ask(gate)
        assert time.monotonic() - began < 2
        assert answer["answer"] == "deny"
        assert "could not be put on record" in answer["reasons"][0]["reason"]
        assert ask(gate, dry_run=True)["answer"] == "allow", "a dry run records nothing"
    finally:
        other.end()
