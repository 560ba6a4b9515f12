"""The exactness proof: a group of workers, hurt at random moments, against one process that never was."""

import asyncio
import os
import random
import signal
import time
from collections import Counter

from cluster import Cluster, Oracle, logs_of, oracle_of, shuffled
from sent import letters_of, mixed, odd, placed, reckoned, varied

from app import kafka
from app.catalog import load_catalog
from app.conventions import CHECKPOINTS, EVIDENCE, METRIC_PREFIX, VIOLATIONS
from app.core.policy import FAILED, ROUTING_RULE
from app.core.runs import RunStage
from app.core.sli import COUNTERS, RUNS, SLIS, STREAMS
from app.policy.pack import load_policy
from app.stream.checkpoint import CheckpointStore
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

#: The longest a grace may be and still be over soon after the traffic; well above clock step and shuffle.
GRACE_SECONDS = 20
#: When runs are closed, for those that have an end and those that never get one, and how long they are kept then.
CLOSING = {"grace_seconds": GRACE_SECONDS, "deadline_seconds": 40, "closed_retention_seconds": 3600}

_BAD = {sli.id: f"{METRIC_PREFIX}{sli.name}_bad_total" for sli in SLIS}


class Chaos:
    """Does things to workers while traffic flows; a seeded schedule of (second, action)."""

    def __init__(self, cluster: Cluster, seconds, *, kills, terms, joins, stops, engines, seed, extra=()):
        rng = random.Random(seed)
        actions = ["kill"] * kills + ["term"] * terms + ["join"] * joins + ["stop"] * stops
        actions += ["engine"] * engines
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

    async def engine(self):
        """kill -9 of a process of a policy engine: the one that answers, or a spare one."""
        engines = [process_id for worker in self.cluster.alive() for process_id in worker.engines()]
        if engines:
            os.kill(self.rng.choice(sorted(engines)), signal.SIGKILL)

    async def supervise(self):
        """Restart what ended, as a supervisor would."""
        while True:
            await asyncio.sleep(0.5)
            self._keep(2)


def traffic(*, events, rate, seed, hostile=None):
    """About so many records that begin now: events, and what is refused, conflicts, or comes twice.

    Among them are so many hostile ones, a hundredth if it is not given.
    """
    made = Traffic(SCENARIOS["steady"], seed=seed, start=time.time(), rate=rate, results_per_run=4)
    made = varied(made.runs(events // 13), share=0.05, seed=seed)
    intended = mixed(made, refused=0.01, conflicts=0.01, harmless=0.02, seed=seed)
    intended = shuffled(intended, duplicates=0.10, within=5000, seed=seed)
    # Early, because a run that a hostile record opens waits for its deadline.
    places = random.Random(seed).sample(range(len(intended) // 4), events // 100 if hostile is None else hostile)
    for place, one in zip(places, odd(len(places), seed), strict=True):
        intended.insert(place, one)
    return intended


async def prove(cluster: Cluster, *, events, rate, seed, extra=(), say=print, **hurts):
    """Run the traffic under chaos; returns the comparison with the oracle, and with what was sent."""
    await cluster.topics()
    intended = traffic(events=events, rate=rate, seed=seed)
    chaos = Chaos(cluster, len(intended) / rate, **hurts, seed=seed, extra=extra)
    began = time.monotonic()
    metadata = await produced_under(chaos, intended, rate)
    say(f"{len(intended)} records in {time.monotonic() - began:.0f} s; {dict(chaos.done)}; draining")
    await asyncio.to_thread(cluster.await_, lambda: drained(cluster, len(intended)), 120, "everything taken in, closed")
    await asyncio.sleep(2)
    short = {cluster.settings.topic(name): name for name in RunStage.topics}
    sent = placed(intended, metadata, short)
    at, found = time.time(), cluster.counters()
    return {
        "actions": dict(chaos.done),
        "term_seconds": chaos.term_seconds,
        **await compare(cluster, sent, found, await logs_of(cluster, until=at)),
    }


async def produced_under(chaos: Chaos, intended, rate):
    """Send records while workers are hurt and started again; returns where each stands."""
    supervisor = asyncio.ensure_future(chaos.supervise())
    await asyncio.to_thread(chaos.cluster.await_ready, 180)
    produced = chaos.cluster.produce([one.message for one in intended], rate)
    metadata, _ = await asyncio.gather(produced, chaos.run())
    supervisor.cancel()
    return metadata


def drained(cluster: Cluster, records):
    """Whether so many records are taken in, all runs closed, and each partition is held by one worker."""
    return cluster.taken_in() == records and cluster.total("open_runs") == 0 and max(cluster.held().values()) == 1


async def compare(cluster: Cluster, sent, found, logs):
    """Totals and ids of the group beside the oracle's, and dead letters and counters beside what was sent.

    Parameters
    ----------
    sent
        The records that were there to be read.
    found
        As of `Cluster.counters`.
    logs
        What stood in the logs when the counters were read, as of `logs_of`.
    """
    oracle = oracle_of(cluster, logs)
    violations = {value["violation_id"]: value for value in await cluster.values(VIOLATIONS)}
    unanswered = {name: value for name, value in violations.items() if value["rule"] == FAILED.name}
    letters = await letters_of(cluster)
    unaccounted, figures = reckoned(sent, letters, found)
    expected = expected_counters(oracle)
    denied = await denied_runs(cluster, oracle)
    # A run that is denied for want of an answer is bad in M5, and the group holds it by name.
    for partition, more in Counter(denied.values()).items():
        expected[_BAD["M5"], (("partition", str(partition)),)] += more
    differences = {
        key: (found.get(key, 0), expected.get(key, 0))
        for key in set(found) | set(expected)
        if found.get(key, 0) != expected.get(key, 0)
    }
    excused = unseen_routings(differences, unanswered, oracle)
    return {
        "events": len(sent),
        "counters": len(expected),
        "differences": {key: pair for key, pair in differences.items() if key not in excused},
        "violations": verdicts(violations, unanswered, oracle),
        "unanswered": dict(Counter(value["reason"] for value in unanswered.values())),
        "denied_unanswered": len(denied),
        "denied_without_cause": sorted(set(denied) - {value["run_id"] for value in unanswered.values()}),
        "evidence": ids(Counter(value["evidence_id"] for value in await cluster.values(EVIDENCE)), oracle.evidence),
        "unaccounted": unaccounted,
        "dead_letters_unlike_oracle": len(set(oracle.dead_letters.items()) ^ {(p, r) for p, (r, _) in letters.items()}),
        "sent": figures,
        "workers_started": cluster.started,
    }


def is_exact(report):
    """Every difference is accounted for by name: assert that none is left."""
    for name in ("differences", "unaccounted", "denied_without_cause"):
        assert not report[name], (name, report[name])
    for name in ("violations", "evidence"):
        assert (report[name]["missing"], report[name]["invented"], report[name]["doubled_in_oracle"]) == (0, 0, 0)
    assert report["dead_letters_unlike_oracle"] == 0


async def denied_runs(cluster: Cluster, oracle: Oracle):
    """Run -> its partition, of the runs that the group holds for violating and the oracle does not.

    By the last checkpoints, so every worker is ended first; what is checkpointed last is what was shown.
    """
    for worker in cluster.alive():
        worker.send(signal.SIGTERM)
    await asyncio.gather(*[asyncio.to_thread(worker.process.wait, 60) for worker in cluster.alive()])
    settings, found = cluster.settings, {}
    catalog, policy = load_catalog(settings.policies), load_policy(settings.policies)
    reader = await kafka.connected(kafka.consumer(settings), settings)
    try:
        store = CheckpointStore(None, reader, settings.topic(CHECKPOINTS))
        for number, expected in oracle.runs.items():
            stage = RunStage(catalog, policy, settings.partitions)
            _, state, _ = await store.read(f"{settings.group}/{RUNS}", number)
            stage.restore(state)
            assert stage.closed.keys() == expected.closed.keys()
            for run_id, run in stage.closed.items():
                assert run.violated or not expected.closed[run_id].violated, run_id
                if run.violated and not expected.closed[run_id].violated:
                    found[run_id] = number
    finally:
        await reader.stop()
    return found


def unseen_routings(differences, unanswered, oracle: Oracle):
    """The differences that follow from routings that were denied for want of an answer.

    Where one goes is not judged then, so at most as many as go where they may not are missing in M6.
    """
    asked = {(value["run_id"], value["input_digest"]) for value in unanswered.values()}
    most = sum((one.run_id, one.input_digest) in asked and one.rule == ROUTING_RULE for one in oracle.violations)
    return {key for key, (shown, due) in differences.items() if key[0] == _BAD["M6"] and 0 < due - shown <= most}


def verdicts(written, unanswered, oracle: Oracle):
    """Violations missing and invented, other than for want of an answer about the same document."""
    expected = {one.violation_id: (one.run_id, one.input_digest) for one in oracle.violations}
    asked = {(value["run_id"], value["input_digest"]) for value in unanswered.values()}
    missing = [expected[name] for name in expected if name not in written]
    return {
        "expected": len(expected),
        "missing": sum(about not in asked for about in missing),
        "missing_unanswered": sum(about in asked for about in missing),
        "invented": len(written.keys() - expected.keys() - unanswered.keys()),
        "unanswered": len(unanswered),
        "doubled_in_oracle": len(oracle.violations) - len(expected),
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
            found[METRIC_PREFIX + "spend_within_budget_valid", labels] += hours
            if hours > good:
                found[METRIC_PREFIX + "spend_within_budget_bad", labels] += hours - good
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
