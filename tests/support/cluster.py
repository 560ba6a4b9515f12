"""Real workers against a real broker: start them, hurt them, read what they wrote."""

import asyncio
import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import msgspec
from aiokafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from app import kafka
from app.broker import free_port
from app.catalog import DEFAULT_DIRECTORY, load_catalog
from app.conventions import SAMPLES
from app.core.outcomes import Violation
from app.core.records import Batch
from app.core.runs import RunStage
from app.core.streams import StreamStage
from app.policy.pack import load_policy
from app.process import environment as process_environment
from app.serving import seal_of
from app.settings import Settings, load
from app.stream.checkpoint import end_offset

PORTS = {"worker": "WEB", "admission": "ADMISSION", "pager": "PAGER"}


def _children(process_id):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, parent, *_ = stat.read_text().rpartition(")")[2].split()  # a name may have blanks in it
            if int(parent) == process_id:
                found.append(int(stat.parent.name))
    return found


def _runs(process_id, module):
    with suppress(OSError):
        return module in Path(f"/proc/{process_id}/cmdline").read_bytes().split(b"\0")
    return False


class Process:
    """One process of the deployment: a worker, a gate, or a pager."""

    def __init__(self, cluster, command, number, environment):
        self.port = free_port()
        self.log = cluster.directory / f"{command}-{number}.log"
        environment = {
            **process_environment(cluster.settings),
            f"QETHICS_{PORTS[command]}_PORT": str(self.port),
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", command], env=environment, stdout=output, stderr=output
            )

    @property
    def alive(self):
        return self.process.poll() is None

    def page(self, path, timeout=5):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def status(self):
        page = self.page("/status.json")
        return json.loads(page) if page else None

    def send(self, number):
        if self.alive:
            self.process.send_signal(number)

    def engines(self):
        """Process ids of its policy engine, the spare ones too."""
        return [each for each in _children(self.process.pid) if _runs(each, b"app.policy.child")]

    def end(self):
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


class Cluster:
    """Workers of one deployment with topics of its own."""

    def __init__(self, bootstrap, directory: Path, *, partitions=4, closing=None, **settings):
        self.directory = directory
        self.workers: list[Process] = []
        self.gates: list[Process] = []
        self.pagers: list[Process] = []
        self.started = 0
        policies = directory / "policies"
        shutil.copytree(DEFAULT_DIRECTORY, policies)
        for name, value in (closing or {}).items():
            path = policies / "evidence.yaml"
            path.write_text(re.sub(rf"(?m)^  {name}: .*$", f"  {name}: {value}", path.read_text()))
        unique = uuid.uuid4().hex[:8]
        defaults = {
            "bootstrap": bootstrap,
            "group": f"group-{unique}",
            "topic_prefix": f"t{unique}.",
            "partitions": partitions,
            "policies": policies,
            "data_directory": directory / "data",
            "session_timeout_seconds": 6.0,
        }
        self.settings: Settings = load({}, **{**defaults, **settings})

    def start(self, **environment):
        self.started += 1
        worker = Process(self, "worker", self.started, environment)
        self.workers.append(worker)
        return worker

    def gate(self, *, ready=True, **environment):
        """A gate, ready to answer unless it is not to be waited for."""
        gate = Process(self, "admission", len(self.gates) + 1, environment)
        self.gates.append(gate)
        if ready:
            self.await_(lambda: gate.page("/readyz") == "ready\n", 30, "the gate ready")
        return gate

    def pager(self, port=None, *, is_awaited=True, **environment):
        """A pager, ready unless it is not to be waited for; on the port of one before it, if that is given."""
        given = {} if port is None else {"QETHICS_PAGER_PORT": str(port)}
        pager = Process(self, "pager", len(self.pagers) + 1, {**given, **environment})
        pager.port = port or pager.port
        self.pagers.append(pager)
        if is_awaited:
            self.await_(lambda: pager.page("/readyz") == "ready\n", 30, "the pager ready")
        return pager

    def alive(self):
        return [worker for worker in self.workers if worker.alive]

    def end(self):
        for process in (*self.workers, *self.gates, *self.pagers):
            process.end()

    def statuses(self):
        return [status for worker in self.alive() if (status := worker.status())]

    def total(self, name):
        return sum(status[name] for status in self.statuses())

    def taken_in(self):
        """How many records the group has taken in, whatever became of them."""
        return sum(self.total(name) for name in ("events_applied", "duplicates", "dead_letters"))

    def held(self):
        """Every partition, with how often it is held; exactly once each when the group is settled."""
        return Counter(partition for status in self.statuses() for partition in status["partitions"])

    def await_(self, condition, seconds, what):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except (KeyError, TypeError):
                pass
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {what}; {self.logs()}")

    def await_ready(self, seconds=60):
        every = set(range(self.settings.partitions))
        self.await_(
            lambda: set(self.held()) == every and max(self.held().values()) == 1, seconds, "every partition held once"
        )

    def logs(self):
        return {
            each.log.name: each.log.read_text(errors="replace")[-600:]
            for each in (*self.workers, *self.gates, *self.pagers)
        }

    async def topics(self):
        await kafka.ensure_topics(self.settings)

    async def produce(self, messages, rate=None, *, paced=False, **options):
        """Publish, and say where each record stands; `rate` in records a second, or each at its own time."""
        producer = await kafka.connected(
            kafka.producer(self.settings, **{"linger_ms": 5, "request_timeout_ms": 120_000, **options}), self.settings
        )
        pending = []
        began = time.monotonic()
        try:
            for sent, message in enumerate(messages):
                if rate is not None and sent % 200 == 0:
                    await asyncio.sleep(max(0, sent / rate - (time.monotonic() - began)))
                if paced and message.at > time.time():
                    await asyncio.sleep(max(0.01, message.at - time.time()))
                topic = self.settings.topic(message.topic)
                pending.append(await producer.send(topic, message.value, key=message.key, headers=[*message.headers]))
            return await asyncio.gather(*pending)
        finally:
            await producer.stop()

    async def read(self, name):
        """Every record of a topic, by partition."""
        topic = self.settings.topic(name)
        consumer = await kafka.connected(kafka.consumer(self.settings, max_partition_fetch_bytes=2**23), self.settings)
        try:
            tps = [TopicPartition(topic, number) for number in range(self.settings.partitions)]
            consumer.assign(tps)
            ends = {tp: await end_offset(consumer, tp) for tp in tps}
            found = {tp.partition: [] for tp in tps}
            await consumer.seek_to_beginning(*tps)
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    found[tp.partition] += [record for record in records if record.offset < ends[tp]]
            return found
        finally:
            await consumer.stop()

    async def values(self, name):
        """The JSON values of a topic."""
        return [msgspec.json.decode(record.value) for run in (await self.read(name)).values() for record in run]

    def counters(self):
        """The counters of all workers from /metrics: (name, labels) -> value; those that are zero left out."""
        found = Counter()
        for worker in self.alive():
            for family in text_string_to_metric_families(worker.page("/metrics")):
                for sample in family.samples:
                    of_hours = sample.name.startswith("qethics_spend_within_budget")
                    ours = of_hours or (sample.name.endswith("_total") and "partition" in sample.labels)
                    if ours and sample.value:
                        found[sample.name, tuple(sorted(sample.labels.items()))] += sample.value
        return found


class Oracle:
    """The same logs through the pure core in one process, with no crash and no Kafka."""

    def __init__(self, settings: Settings):
        catalog, policy = load_catalog(settings.policies), load_policy(settings.policies)
        numbers = range(settings.partitions)
        seal = seal_of(settings)
        self.runs = {number: RunStage(catalog, policy, settings.partitions, seal=seal) for number in numbers}
        self.streams = {number: StreamStage(catalog, len(numbers), seal=seal) for number in numbers}
        self.violations: list[Violation] = []
        self.evidence: list[str] = []
        self.alerts: list[str] = []
        #: (topic, partition, offset) -> why a record was not taken in.
        self.dead_letters: dict[tuple[str, int, int], str] = {}

    def feed(self, partition, topic, records, seed=0):
        """Apply a log in pieces of random length."""
        stage = self.streams[partition] if topic == SAMPLES else self.runs[partition]
        rng = random.Random(seed)
        at = 0
        while at < len(records):
            piece = records[at : at + rng.randint(1, 1500)]
            at += len(piece)
            outcomes = stage.apply(Batch(topic, partition, piece[0].offset, piece[-1].offset + 1, piece))
            self.violations += outcomes.violations
            self.evidence += [evidence.evidence_id for evidence in outcomes.evidence]
            self.alerts += [alert.alert_id for alert in outcomes.alerts]
            self.dead_letters |= {
                (letter.topic, letter.partition, letter.record.offset): letter.reason.value
                for letter in outcomes.dead_letters
            }


async def logs_of(cluster: Cluster, until=math.inf):
    """What stands in the logs that workers read: topic -> partition -> records.

    Heartbeats go on coming, and with them time; so what is to be as it was when something was looked at asks for what
    was written `until` then, in seconds since the epoch.
    """
    logs = {name: await cluster.read(name) for name in (*RunStage.topics, SAMPLES)}
    return {
        name: {number: [one for one in records if one.timestamp <= until * 1000] for number, records in parts.items()}
        for name, parts in logs.items()
    }


def oracle_of(cluster: Cluster, logs) -> Oracle:
    """What one process concludes from the logs of a cluster."""
    oracle = Oracle(cluster.settings)
    for partition in range(cluster.settings.partitions):
        # Heartbeats cut the logs into stretches; the stretches are interleaved as time went.
        for topic, records in _interleaved({name: logs[name][partition] for name in RunStage.topics}):
            oracle.feed(partition, topic, records, seed=partition)
        oracle.feed(partition, SAMPLES, logs[SAMPLES][partition], seed=partition)
    return oracle


def _interleaved(logs, size=500):
    position = dict.fromkeys(logs, 0)
    while any(position[topic] < len(logs[topic]) for topic in logs):
        topic = min(
            (topic for topic in logs if position[topic] < len(logs[topic])),
            key=lambda topic: logs[topic][position[topic]].timestamp,
        )
        piece = logs[topic][position[topic] : position[topic] + size]
        position[topic] += len(piece)
        yield topic, piece


def shuffled(messages, *, duplicates, within, seed):
    """A share of the messages twice, and all of them moved by less than `within` places."""
    rng = random.Random(seed)
    doubled = [message for message in messages for _ in range(1 + (rng.random() < duplicates))]
    keyed = sorted(range(len(doubled)), key=lambda index: index + rng.random() * within)
    return [doubled[index] for index in keyed]
