"""`deploy/kafka/acls.sh` on an Apache Kafka that denies what no rule allows: each can do its work, and no more."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from apache_kafka import ADMIN, apache_kafka
from asking import post, question
from cluster import Cluster
from command import qethics
from mutated import notification
from records import dump, lifecycle
from signing import built, key_pair

from app import kafka
from app.catalog import DEFAULT_DIRECTORY
from app.conventions import HEARTBEAT_HEADER, TOPICS

pytestmark = [pytest.mark.broker, pytest.mark.real_kafka]

SCRIPT = Path(__file__).resolve().parent.parent.parent / "deploy" / "kafka" / "acls.sh"
PARTITIONS = 2
FORBIDDEN = {"endpoint": "nowhere/quantum"}

#: Principal -> the topics it may write, as docs/threats.md has them.
WRITES = {
    "worker": "jobs results samples checkpoints admissions violations decisions evidence alerts directives "
    "replay-requests dead-letter",
    "gate": "admissions admission-replies dead-letter",
    "pager": "incidents",
    "operator": "samples directives",
    "producer": "jobs results",
    "scheduler": "admission-requests jobs",
    "auditor": "",
}
#: Principal -> the topics it may read, and the group it may read them in.
READS = {
    "worker": ("jobs results admissions samples checkpoints", "qethics"),
    "gate": ("directives admission-requests", "qethics-admission"),
    "pager": ("alerts incidents directives jobs results violations decisions evidence replay-requests", None),
    "operator": ("", None),
    "producer": ("", None),
    "scheduler": ("admission-replies directives replay-requests", "qethics-scheduler"),
    "auditor": (
        "violations decisions admissions evidence alerts incidents directives replay-requests dead-letter",
        "qethics-audit",
    ),
}
GROUPS = {group for _, group in READS.values() if group is not None}


class Guarded(Cluster):
    """A deployment whose processes, producers and readers all have a name of their own."""

    def __init__(self, broker, directory, **settings):
        self._broker = broker
        nowhere = dict.fromkeys(("alertmanagers", "prometheus_url", "worker_urls"), "http://127.0.0.1:9")
        names = {"topic_prefix": "qethics.", "group": "qethics", "partitions": PARTITIONS}
        way = {"security_protocol": "SASL_SSL", "ssl_ca_file": broker.ca_file, **self._identity(ADMIN)}
        super().__init__(broker.secure_bootstrap, directory, **names, **nowhere, **way, **settings)

    def _identity(self, user):
        return {"sasl_username": user, "sasl_password_file": self._broker.password_files[user]}

    def settings_of(self, principal):
        return msgspec.structs.replace(self.settings, **self._identity(f"qethics-{principal}"))

    def environment_of(self, principal):
        identity = self._identity(f"qethics-{principal}")
        return {f"QETHICS_{name.upper()}": str(value) for name, value in identity.items()}

    async def write(self, principal, topic, *records):
        """Write records of (key, value, headers)."""
        settings = self.settings_of(principal)
        producer = await kafka.connected(kafka.producer(settings), settings)
        try:
            for key, value, headers in records:
                await producer.send_and_wait(settings.topic(topic), value, key=key, headers=headers)
        finally:
            await producer.stop()

    async def until(self, principal, topic, wanted, seconds=120):
        """Read a topic in the principal's own group until a value is wanted; returns it and its headers."""
        settings = self.settings_of(principal)
        group = READS[principal][1]
        consumer = await kafka.connected(kafka.consumer(settings, settings.topic(topic), group_id=group), settings)
        try:
            async with asyncio.timeout(seconds):
                async for record in consumer:
                    value = msgspec.json.decode(record.value)
                    if wanted(value):
                        return value, dict(record.headers)
        finally:
            await consumer.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A deployment on a broker that has the shipped rules and no other."""
    directory = tmp_path_factory.mktemp("guarded")
    pair, bundle, control_key = key_pair(directory), directory / "bundle.tar.gz", directory / "control.key"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 5))
    control_key.write_text(os.urandom(32).hex())
    with apache_kafka(users=[f"qethics-{principal}" for principal in WRITES], guarded=True) as broker:
        script, config = broker.acls_command()
        environment = {"BOOTSTRAP": broker.secure_bootstrap, "COMMAND_CONFIG": str(config), "KAFKA_ACLS": str(script)}
        subprocess.run(["bash", SCRIPT], env={**os.environ, **environment}, check=True, timeout=120)
        signed = {"policy_bundle": bundle, "policy_keys": pair.public, "control_key_file": control_key}
        cluster = Guarded(broker, directory, **signed)
        asyncio.run(cluster.topics())
        yield cluster
        cluster.end()


def test_each_principal_does_its_work(guarded):
    """A job is sent, taken in, found forbidden, ordered away, paged, shown to an auditor, and the gate goes by it."""
    processes = _, gate, pager = (
        guarded.start(**guarded.environment_of("worker")),
        guarded.gate(ready=False, **guarded.environment_of("gate")),
        guarded.pager(is_awaited=False, **guarded.environment_of("pager")),
    )
    guarded.await_(lambda: all(each.page("/readyz") == "ready\n" for each in processes), 120, "all ready")

    events = lifecycle("run-1", at=time.time() - 10, routed=FORBIDDEN)
    forged = (None, b"{}", [(HEARTBEAT_HEADER, b"1")])
    asyncio.run(guarded.write("producer", "jobs", *((b"run-1", dump(event), []) for event in events), forged))
    guarded.await_(lambda: guarded.total("events_applied") == len(events), 60, "everything applied")
    violation, _ = asyncio.run(guarded.until("auditor", "violations", lambda value: value["run_id"] == "run-1"))
    assert violation["rule"] == "approved_endpoint"
    # It may write to jobs, so what holds a forged heartbeat is the seal.
    _, headers = asyncio.run(guarded.until("auditor", "dead-letter", lambda value: True))
    assert headers["reason"] == b"unsealed_control"

    order, _ = asyncio.run(guarded.until("scheduler", "directives", lambda value: True))
    assert (order["directive"], order["target"]) == ("disable_routing", FORBIDDEN["endpoint"])
    asked = question("run-2", routing={**FORBIDDEN, "provider": "ibm", "region": "us-east", "backend": "ibm_fez"})
    asyncio.run(guarded.write("scheduler", "admission-requests", (b"run-2", dump(asked), [])))
    reply, _ = asyncio.run(guarded.until("scheduler", "admission-replies", lambda value: value["run_id"] == "run-2"))
    assert reply["answer"] == "deny"
    asyncio.run(guarded.until("auditor", "admissions", lambda value: value.get("run_id") == "run-2"))
    assert gate.page("/readyz") == "ready\n"

    said = msgspec.json.decode(pager.page("/v1/runs/run-1", timeout=20))
    assert {record["topic"] for record in said["records"]} >= {"jobs", "violations", "decisions"}
    (incident_id,) = post(pager, "/v1/alertmanager", notification())[1]["incidents"]
    asyncio.run(guarded.until("auditor", "incidents", lambda value: value["incident_id"] == incident_id))

    environment = {**guarded.settings.environment(), **guarded.environment_of("operator")}
    done = qethics("rebaseline", "--cost-center", "logistics", "--by", "operator", "--reason", "moved", **environment)
    assert done.returncode == 0, done.stderr
    asyncio.run(guarded.until("auditor", "alerts", lambda value: value["name"] == "BaselineChanged"))
    for process in processes:
        assert process.alive
        assert "uthorization" not in process.log.read_text()
    guarded.end()


def test_each_principal_is_denied_what_its_work_does_not_need(guarded):
    """Every principal tries to write to every topic, to read every topic, and to read in every group."""
    found_writes, found_reads, found_groups = asyncio.run(_tried(guarded))
    assert found_writes == {principal: set(topics.split()) for principal, topics in WRITES.items()}
    assert found_reads == {principal: set(topics.split()) for principal, (topics, _) in READS.items()}
    assert found_groups == {principal: {group} - {None} for principal, (_, group) in READS.items()}


async def _tried(guarded):
    """What each principal could write, read, and read in."""
    admin = guarded.settings
    producer = await kafka.connected(kafka.producer(admin), admin)
    for topic in TOPICS:
        await producer.send_and_wait(
            admin.topic(topic), b"{}", key=b"k", partition=0
        )  # so that there is something to read
    await producer.stop()
    settings = {principal: guarded.settings_of(principal) for principal in WRITES}
    return [
        {principal: await attempt(each) for principal, each in settings.items()}
        for attempt in (_writable, _readable, _joinable)
    ]


async def _writable(settings):
    producer = await kafka.connected(kafka.producer(settings), settings)
    found = set()
    try:
        for topic in TOPICS:
            try:
                await producer.send_and_wait(settings.topic(topic), b"{}", key=b"k", partition=0)
                found.add(topic)
            except TopicAuthorizationFailedError:
                continue
    finally:
        await producer.stop()
    return found


async def _readable(settings):
    admin = await kafka.connected(kafka.admin(settings), settings)
    try:
        described = await admin.describe_topics([settings.topic(topic) for topic in TOPICS])
    finally:
        await admin.close()
    denied = {each["topic"] for each in described if each["error_code"] == TopicAuthorizationFailedError.errno}
    seen = [topic for topic in TOPICS if settings.topic(topic) not in denied]  # of the others it knows nothing at all
    return {topic for topic in seen if await _is_read(settings, topic)}


async def _is_read(settings, topic):
    # One each: a consumer that was denied one topic may say so of the next.
    consumer = await kafka.connected(kafka.consumer(settings), settings)
    try:
        consumer.assign([TopicPartition(settings.topic(topic), 0)])
        return await consumer.getone() is not None
    except TopicAuthorizationFailedError:
        return False
    finally:
        await consumer.stop()


async def _joinable(settings):
    topics, _ = READS[settings.sasl_username.removeprefix("qethics-")]
    tp = TopicPartition(settings.topic([*topics.split(), "evidence"][0]), 0)
    found = set()
    for group in GROUPS:
        consumer = await kafka.connected(kafka.consumer(settings, group_id=group), settings)
        try:
            await consumer.committed(tp)
            found.add(group)
        except GroupAuthorizationFailedError:
            continue
        finally:
            await consumer.stop()
    return found


def test_nobody_but_the_administrator_makes_or_deletes_a_topic(guarded):
    async def attempts(principal):
        settings = guarded.settings_of(principal)
        admin = await kafka.connected(kafka.admin(settings), settings)
        try:
            deleted = await admin.delete_topics([settings.topic("violations")])
            made = await admin.create_topics([NewTopic(settings.topic("more"), 1, 1)])
            return [deleted.topic_error_codes[0][1], made.topic_errors[0][1]]
        finally:
            await admin.close()

    refused = [TopicAuthorizationFailedError.errno] * 2
    assert {principal: asyncio.run(attempts(principal)) for principal in WRITES} == {name: refused for name in WRITES}
