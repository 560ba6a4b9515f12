"""The exactness proof: a group of workers, hurt at random moments, against one process that never was."""

import asyncio
import random
import signal
import time
from collections import Counter

from cluster import Cluster, Oracle, oracle_of, shuffled

from app.conventions import EVIDENCE, METRIC_PREFIX, VIOLATIONS
from app.core.sli import COUNTERS, RUNS, SLIS, STREAMS
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

#: The longest a grace may be and still be over soon after the traffic; well above clock step and shuffle.
GRACE_SECONDS = 20


class Chaos:
    """Does things to workers while traffic flows; a seeded schedule of (second, action)."""

    def __init__(self, cluster: Cluster, seconds, *, kills, terms, joins, stops, seed, extra=()):
        rng = random.Random(seed)
        actions = ["kill"] * kills + ["term"] * terms + ["join"] * joins + ["stop"] * stops
        self.cluster = cluster
        self.rng = rng
        self.schedule = sorted([(rng.uniform(0.08, 0.95) * seconds, action) for action in actions] + list(extra))
        self.done = Counter()
        self.term_seconds = []
        self.bystanders = []

    async def run(self):
        began = time.monotonic()
        for at, action in self.schedule:
            await asyncio.sleep(max(0.0, at - (time.monotonic() - began)))
            await (action() if callable(action) else getattr(self, action)())
            self.done[action if isinstance(action, str) else "extra"] += 1
        await asyncio.gather(*self.bystanders)

    def _victim(self):
        self._keep(2)
        return self.rng.choice(self.cluster.alive())

    def _keep(self, least):
        while len(self.cluster.alive()) < least:
            self.cluster.start()

    async def kill(self):
        self._victim().send(signal.SIGKILL)
        await asyncio.sleep(0.2)
        self._keep(2)

    async def term(self):
        worker = self._victim()
        self.bystanders.append(asyncio.ensure_future(self._terminated(worker)))
        await asyncio.sleep(0.2)

    async def _terminated(self, worker):
        began = time.monotonic()
        worker.send(signal.SIGTERM)
        while worker.alive and time.monotonic() - began < 60:
            await asyncio.sleep(0.05)
        self.term_seconds.append(time.monotonic() - began)
        self._keep(2)

    async def join(self):
        if len(self.cluster.alive()) >= 3:
            await self.term()
        self.cluster.start()

    async def stop(self):
        """Past the session time-out: the group goes on without it, and then it wakes up."""
        worker = self._victim()
        worker.send(signal.SIGSTOP)
        self._keep(3)

        async def wake():
            await asyncio.sleep(self.cluster.settings.session_timeout_seconds + 4)
            worker.send(signal.SIGCONT)

        self.bystanders.append(asyncio.ensure_future(wake()))

    async def supervise(self):
        """Restart what ended, as a supervisor would."""
        while True:
            await asyncio.sleep(0.5)
            self._keep(2)


async def prove(cluster: Cluster, *, events, rate, seed, kills, terms, joins, stops, extra=(), say=print):
    """Run the traffic under chaos; returns the comparison with the oracle."""
    await cluster.topics()
    traffic = Traffic(SCENARIOS["steady"], seed=seed, start=time.time(), rate=rate, results_per_run=4)
    made = traffic.runs(events // 13)
    messages = shuffled(made, duplicates=0.10, within=5000, seed=seed)
    for _ in range(2):
        cluster.start()
    cluster.await_ready()
    seconds = len(messages) / rate
    chaos = Chaos(cluster, seconds, kills=kills, terms=terms, joins=joins, stops=stops, seed=seed, extra=extra)
    supervisor = asyncio.ensure_future(chaos.supervise())
    began = time.monotonic()
    await asyncio.gather(cluster.produce(messages, rate), chaos.run())
    supervisor.cancel()
    say(f"{len(messages)} events in {time.monotonic() - began:.0f} s; {dict(chaos.done)}; draining")

    def drained():
        taken = cluster.total("events_applied") + cluster.total("duplicates") + cluster.total("dead_letters")
        return taken == len(messages) and cluster.total("open_runs") == 0 and max(cluster.held().values()) == 1

    await asyncio.to_thread(cluster.await_, drained, 60, "everything applied and every run closed")
    await asyncio.sleep(2)
    return await compare(cluster, chaos, len(messages))


async def compare(cluster: Cluster, chaos: Chaos, sent):
    """Totals and ids of the group beside the oracle's."""
    found = cluster.counters()
    oracle = await oracle_of(cluster)
    expected = expected_counters(oracle)
    differences = {
        key: (found.get(key, 0), expected.get(key, 0))
        for key in set(found) | set(expected)
        if found.get(key, 0) != expected.get(key, 0)
    }
    written = {
        name: Counter(value[field] for value in await cluster.values(name))
        for name, field in ((VIOLATIONS, "violation_id"), (EVIDENCE, "evidence_id"))
    }
    return {
        "events": sent,
        "actions": dict(chaos.done),
        "term_seconds": chaos.term_seconds,
        "counters": len(expected),
        "differences": differences,
        "violations": ids(written[VIOLATIONS], oracle.violations),
        "evidence": ids(written[EVIDENCE], oracle.evidence),
        "workers_started": cluster.started,
    }


def ids(written, expected):
    """Ids missing and ids invented; repeats of an id are what its determinism is for."""
    return {
        "expected": len(set(expected)),
        "missing": len(set(expected) - set(written)),
        "invented": len(set(written) - set(expected)),
        "doubled_in_oracle": len(expected) - len(set(expected)),
        "repeats_on_topic": sum(written.values()) - len(written),
    }


def expected_counters(oracle: Oracle):
    """The oracle's counters under the names and labels that `/metrics` uses."""
    names = {
        (side, sli.id): (f"{METRIC_PREFIX}{sli.name}_{side}", sli.labels) for sli in SLIS for side in ("valid", "bad")
    }
    names |= {(row.key,): (METRIC_PREFIX + row.name, row.labels) for row in COUNTERS}
    parted = {(row.key,) for row in COUNTERS if len(row.stages) > 1}
    # Events that came and those that were refused are shown as a whole and its bad part, too.
    came, bad = "event_acceptance_valid", "event_acceptance_bad"
    wholes = {RUNS: {("applied",): (came,), ("rejected",): (came, bad)}, STREAMS: {}}
    found = Counter()
    for stage in oracle.streams.values():
        for (center, runtime), (hours, good) in stage.budget_hours().items():
            labels = (("cost_center", center), ("runtime", runtime))
            found[METRIC_PREFIX + "spend_within_budget_valid", labels] = hours
            if hours > good:
                found[METRIC_PREFIX + "spend_within_budget_bad", labels] = hours - good
    for of, stages in ((RUNS, oracle.runs), (STREAMS, oracle.streams)):
        for partition, stage in stages.items():
            for key, value in stage.counters.items():
                if key[0] == "bucket":
                    continue  # those of the histograms are shown summed up
                prefix = key[:2] if key[0] in ("valid", "bad") else key[:1]
                name, labels = names[prefix]
                pairs = dict(zip(labels, key[len(prefix) :], strict=True)) | {"partition": str(partition)}
                pairs |= {"stage": of} if prefix in parted else {}
                if value:
                    found[name + "_total", tuple(sorted(pairs.items()))] += value
                    for whole in wholes[of].get(prefix, ()):
                        found[f"{METRIC_PREFIX}{whole}_total", (("partition", str(partition)),)] += value
    return found
