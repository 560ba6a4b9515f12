"""Policy bundles through real workers: put in force while events flow, refused, and there again after a kill."""

import asyncio
import itertools
import json
import math
import os
import random
import re
import shutil
import time
from contextlib import closing

import msgspec
import pytest
from asking import ask
from cluster import Cluster
from faulty_engine import killed_at_random
from records import ROUTED, dump, lifecycle, result
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY
from app.conventions import ALERTS, DIRECTIVES, JOBS, RESULTS, VIOLATIONS
from app.core.facts import Facts
from app.policy.evaluator import Evaluator
from app.policy.pack import load_pack
from simulators.scenarios import SCENARIOS
from simulators.traffic import Message, Traffic

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def make(tmp_path_factory, pair):
    def bundle(version, modes, tiers="[]"):
        directory = shutil.copytree(DEFAULT_DIRECTORY, tmp_path_factory.mktemp("rules") / "policies")
        governance = directory / "governance.yaml"
        text = governance.read_text().replace("modes: {}", f"modes: {modes}")
        governance.write_text(text.replace("  tiers: []", f"  tiers: {tiers}"))
        return built(directory, pair, version)

    return bundle


@pytest.fixture
def cluster(bootstrap, tmp_path, pair, make):
    source = tmp_path / "bundle.tar.gz"
    source.write_bytes(make(1, "{}"))
    made = Cluster(
        bootstrap,
        tmp_path,
        closing={"settle_seconds": 2},
        policy_bundle=source,
        policy_keys=pair.public,
        policy_seconds=0.2,
    )
    asyncio.run(made.topics())
    yield made
    made.end()


WRONG = {"provider": "aws-braket", "endpoint": "braket-us-west-1", "region": "us-west-1"}


def replace(path, content):
    partial = path.with_name("partial")
    partial.write_bytes(content)
    partial.replace(path)


def misrouted(numbers):
    now = time.time()
    for number in numbers:
        run_id = f"run-{number}"
        for value in lifecycle(run_id, at=now, submitted={"sensitivity": "internal"}, routed={"endpoint": "nowhere"}):
            yield Message(0.0, JOBS, run_id.encode(), dump(value))


def test_f3_from_end_to_end(cluster):
    """The simulator misroutes regulated runs: violation, page and order in two seconds; the gate denies the next."""
    cluster.start()
    cluster.await_ready()
    gate = cluster.gate()
    open_data = {"routing": {**WRONG, "backend": "rigetti"}, "sensitivity": "public"}
    assert ask(gate, dry_run=True, **open_data)["answer"] == "allow", "open data may go there"
    traffic = Traffic(SCENARIOS["unauthorized-routing"], seed=2, start=time.time(), rate=200)
    asyncio.run(cluster.produce(traffic.for_seconds(3), rate=400))
    began = time.monotonic()
    while (answer := ask(gate, dry_run=True, **open_data))["answer"] == "allow":
        assert time.monotonic() - began < 2
    assert answer["answer"] == "deny"
    assert [(each["directive"], each["target"]) for each in answer["directives"]] == [
        ("disable_routing", WRONG["endpoint"])
    ]
    fallback = ask(gate, dry_run=True, fallback="classical", **open_data)
    assert fallback["answer"] == "fallback_classical"

    def first(topic):
        """Run -> when the first record about it was written, by the broker's own time."""
        found = {}
        for record in sorted(all_of(topic), key=lambda record: record.timestamp):
            value = json.loads(record.value or b"{}")
            wanted = value.get("type") == "routed" if topic == JOBS else value.get("rule") == "approved_endpoint"
            if wanted:
                found.setdefault(value["run_id"], record.timestamp / 1000)
        return found

    def all_of(topic):
        return [record for records in asyncio.run(cluster.read(topic)).values() for record in records]

    cluster.await_(lambda: len(first(VIOLATIONS)) >= traffic.truth.unauthorized, 20, "every violation")
    routed, violated = first(JOBS), first(VIOLATIONS)
    assert len(violated) == traffic.truth.unauthorized > 0
    assert max(violated[run] - routed[run] for run in violated) < 2
    orders = [record for record in all_of(DIRECTIVES) if record.key == f"disable_routing/{WRONG['endpoint']}".encode()]
    assert orders[0].timestamp / 1000 - min(routed[run] for run in violated) < 2
    pages = [alert for alert in asyncio.run(cluster.values(ALERTS)) if alert["name"] == "UnauthorizedRouting"]
    assert [(page["severity"], page["status"]) for page in pages] == [("page", "firing")]


def test_runs_that_were_routed_while_the_gate_was_down_or_in_spite_of_it_are_found(cluster, make):
    replace(cluster.settings.policy_bundle, make(2, "{}", "[low, medium, high]"))
    cluster.start()
    cluster.await_ready()
    gate = cluster.gate()
    assert ask(gate, run_id="run-asked", routing=ROUTED)["answer"] == "allow"
    assert ask(gate, run_id="run-denied", shots=1)["answer"] == "deny"
    gate.end()
    runs = ("run-asked", "run-denied", "run-never-asked")
    events = [value for run_id in runs for value in lifecycle(run_id, at=time.time())]
    messages = [Message(0.0, JOBS, value["run_id"].encode(), dump(value)) for value in events]
    results = [Message(0.0, RESULTS, run_id.encode(), dump(result(run_id, at=time.time()))) for run_id in runs]
    asyncio.run(cluster.produce([*messages, *results]))

    def found():
        said = asyncio.run(cluster.values(VIOLATIONS))
        return {each["run_id"]: each["reason"] for each in said if each["rule"] == "gate_obeyed"}

    cluster.await_(lambda: len(found()) == 2, 30, "both found when they close")
    assert found() == {
        "run-denied": "the gate denied the run, and it was routed",
        "run-never-asked": "nobody asked the gate, or it was down",
    }


def figures(cluster, name):
    found = [
        re.findall(rf"^{name}(?:{{.*}})? (\S+)$", worker.page("/metrics") or "", re.M) for worker in cluster.alive()
    ]
    return [float(value) for each in found for value in each]


def versions(cluster):
    return figures(cluster, "qethics_policy_version")


def test_a_new_bundle_takes_over_while_events_flow_and_a_bad_one_does_not(cluster, make):
    source = cluster.settings.policy_bundle
    for _ in range(2):
        cluster.start()
    cluster.await_ready()
    assert versions(cluster) == [1.0] * 4

    async def flow():
        sent, last = [], math.inf

        def messages():
            for message in misrouted(itertools.takewhile(lambda number: number < last, itertools.count())):
                sent.append(message.key)
                yield message

        second = make(2, "{approved_endpoint: warn}")
        publishing = asyncio.ensure_future(cluster.produce(messages(), rate=1_500))
        await asyncio.to_thread(cluster.await_, lambda: cluster.total("events_applied") > 1_000, 30, "judged")
        await asyncio.to_thread(replace, source, second)
        in_force = "the second bundle in force everywhere"
        await asyncio.to_thread(cluster.await_, lambda: versions(cluster) == [2.0] * 4, 30, in_force)
        last = len(set(sent)) + 300
        await publishing
        return len(sent), len(set(sent))

    sent, runs_sent = asyncio.run(flow())
    cluster.await_(lambda: cluster.total("events_applied") >= sent, 60, "everything taken in")
    assert cluster.total("events_applied") == sent
    assert cluster.total("dead_letters") == 0

    replace(source, source.read_bytes()[:-100])
    cluster.await_(
        lambda: figures(cluster, "qethics_policy_source_refused") == [1.0] * 2, 30, "the damaged one refused"
    )
    cluster.await_(lambda: sum(figures(cluster, "qethics_policy_drift_partitions")) == 4, 30, "drift")
    assert versions(cluster) == [2.0] * 4

    cluster.workers[0].end()
    cluster.await_ready()
    assert versions(cluster) == [2.0] * 4, "what takes over a partition goes on with what was in force"

    cluster.await_(lambda: figures(cluster, "qethics_policy_source_refusals_total") == [1.0], 30, "counted")
    read = asyncio.run(cluster.read(VIOLATIONS))
    runs, revisions = set(), set()
    for records in read.values():
        values = [msgspec.json.decode(record.value) for record in records]
        of_rule = [value for value in values if value["rule"] == "approved_endpoint"]
        runs |= {value["run_id"] for value in of_rule}
        revisions |= {(value["policy_revision"], value["mode"]) for value in of_rule}
        modes = [value["mode"] for value in {value["violation_id"]: value for value in of_rule}.values()]
        assert modes == sorted(modes), "first enforced, then told, and never back"
    assert len(runs) == runs_sent
    assert {mode for _, mode in revisions} == {"enforce", "warn"}
    assert len(revisions) == 2, "a revision enforces or tells"


def test_an_engine_that_is_killed_at_500_random_instants_of_asking_is_500_times_replaced():
    pack = load_pack()
    facts = Facts(("run", "routing")).document()
    with closing(Evaluator(pack.modules, pack.data, deadline_seconds=10.0)) as evaluate:
        question = msgspec.json.encode(facts)
        kills = 500 if os.environ.get("PROVE", "full") == "full" else 50
        assert killed_at_random(evaluate, question, evaluate(question), random.Random(500), kills) > 0
