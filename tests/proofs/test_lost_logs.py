"""The exactness proof where logs are lost under the readers: records deleted unread, a topic made again, partitions
added, workers and policy engines killed in between.

What workers say that they did not read is taken out of what was sent; all the rest must be exact.
`PROVE=full` is 200,000 records and two seeds; `PROVE=bounded` has each of it with less traffic.
"""

import asyncio
import dataclasses
import json
import math
import os
import re
import signal
import sys
import time
from collections import Counter

import pytest
from administering import delete_before, enlarge, remake
from chaos import CLOSING, Chaos, compare, drained, is_exact, produced_under, traffic
from cluster import Cluster, logs_of
from sent import placed

from app.conventions import JOBS, RESULTS
from app.core.runs import RunStage
from app.stream.protocol import LOG

pytestmark = [pytest.mark.broker, pytest.mark.real_kafka, pytest.mark.alone]

FULL = os.environ.get("PROVE") == "full"
EVENTS, SEEDS = (200_000, (1, 2)) if FULL else (40_000, (1,))
HURTS = {"kills": 3, "terms": 1, "joins": 1, "stops": 0, "engines": 20} if FULL else {
    "kills": 1, "terms": 0, "joins": 1, "stops": 0, "engines": 5
}  # fmt: skip
RATE = 4000
ADDED = 2
_DELETED = re.compile(r"(\S+)/(\d+): records (\d+) to (\d+) were deleted unread")
_ANEW = re.compile(r"(\S+)/(\d+): the log began anew: .* held from (\d+) on was not read")
#: Counters of what was lost: since a worker began, so that a kill takes them; held against what was said meanwhile.
_OF_LOSSES = ("qethics_records_deleted_unread_total", "qethics_logs_began_anew_total")


class Lossy:
    """Traffic to a group of workers, and what stood in its logs, those that are gone included."""

    def __init__(self, cluster: Cluster, seed):
        self.cluster = cluster
        self.seed = seed
        self.sent = []
        self.done = Counter()
        #: Topic -> what is added to the offsets of its log to make positions of them.
        self.shift = dict.fromkeys(RunStage.topics, 0)
        #: (topic, partition) -> position -> record.
        self.stood = {}
        self._short = {cluster.settings.topic(name): name for name in RunStage.topics}

    async def send(self, events, hostile=0, **hurts):
        """Send about so many records, hostile ones among them, while the workers are hurt if that is asked for."""
        self.seed += 100
        intended = traffic(events=events, rate=RATE, seed=self.seed, hostile=hostile)
        if hurts:
            chaos = Chaos(self.cluster, len(intended) / RATE, **hurts, seed=self.seed)
            metadata = await produced_under(chaos, intended, RATE)
            self.done += chaos.done
        else:
            metadata = await self.cluster.produce([one.message for one in intended], RATE)
        self.sent += [
            one._replace(offset=one.offset + self.shift[one.topic]) for one in placed(intended, metadata, self._short)
        ]

    async def note(self, until=math.inf):
        """Keep what stands in the logs; as of `logs_of`."""
        for topic, parts in (await logs_of(self.cluster, until)).items():
            for partition, records in parts.items():
                stood = self.stood.setdefault((topic, partition), {})
                for record in records:
                    position = record.offset + self.shift.get(topic, 0)
                    stood[position] = dataclasses.replace(record, offset=position)

    def unread(self):
        """(topic, partition) -> ranges [first, after) of positions that workers said they did not read."""
        found = {}
        for worker in self.cluster.workers:
            text = worker.log.read_text(errors="replace")
            for topic, partition, first, last in _DELETED.findall(text):
                found.setdefault((self._short[topic], int(partition)), set()).add((int(first), int(last) + 1))
            for topic, partition, first in _ANEW.findall(text):
                found.setdefault((self._short[topic], int(partition)), set()).add((int(first), LOG))
        return found

    def read(self):
        """What was sent and was there to be read."""
        unread = self.unread()
        return [
            one
            for one in self.sent
            if one.partition < self.cluster.settings.partitions
            and not _within(one.offset, unread.get((one.topic, one.partition), ()))
        ]

    def logs(self):
        """What stood in the logs and was there to be read; as of `logs_of`."""
        unread, found = self.unread(), {}
        for (topic, partition), stood in self.stood.items():
            gone = unread.get((topic, partition), ())
            records = [stood[position] for position in sorted(stood) if not _within(position, gone)]
            found.setdefault(topic, {})[partition] = records
        return found

    async def until(self, condition, what, seconds=120):
        await asyncio.to_thread(self.cluster.await_, condition, seconds, what)

    async def settled(self):
        """Everything is taken in, and is in checkpoints; every worker holds something."""
        cluster = self.cluster

        def is_quiet():
            shared = all(status["partitions"] for status in cluster.statuses())
            return shared and cluster.taken_in() == len(self.read()) and max(cluster.held().values()) == 1

        await self.until(is_quiet, "everything taken in")
        for _ in range(2):  # the first may have been begun before
            asked_at = time.time()

            def is_kept(asked_at=asked_at):
                statuses = cluster.statuses()
                newest = [time.time() - status["last_checkpoint_seconds_ago"] for status in statuses]
                return len(newest) == len(cluster.alive()) and min(newest) > asked_at

            await self.until(is_kept, "a checkpoint of everything")

    def all_workers(self, signal_number):
        for worker in self.cluster.alive():
            worker.send(signal_number)

    def ends(self):
        """(topic, partition) -> where the log ends."""
        return {place: max(stood, default=-1) + 1 for place, stood in self.stood.items()}


def _within(position, ranges):
    return any(first <= position < after for first, after in ranges)


async def prove(cluster: Cluster, seed):
    """Lose logs in every way there is; returns the comparison, with what was lost and what waits unread."""
    await cluster.topics()
    lossy = Lossy(cluster, seed)
    for _ in range(2):
        cluster.start()
    await asyncio.to_thread(cluster.await_ready, 180)
    # Hostile records use the same few runs: later, they would come about when those are closed, and be of another
    # partition once there are more.
    await lossy.send(EVENTS * 3 // 10, hostile=EVENTS // 100, **HURTS)
    await lossy.settled()
    deleted = await delete_unread(lossy)
    anew = await make_again(lossy)
    await lossy.send(EVENTS * 2 // 10, **HURTS)
    await lossy.until(lambda: drained(cluster, len(lossy.read())), "everything taken in, and closed")
    await enlarge(cluster, cluster.settings.partitions + ADDED, *map(cluster.settings.topic, RunStage.topics))
    await lossy.send(EVENTS * 2 // 10, **HURTS)
    await lossy.until(lambda: drained(cluster, len(lossy.read())), "everything taken in, and closed")
    waiting = Counter((one.topic, one.partition) for one in lossy.sent if one.partition >= cluster.settings.partitions)
    await lossy.until(lambda: cluster.total("lag") >= sum(waiting.values()), "what nobody reads waits")
    complaints = sorted({text for status in cluster.statuses() for text in status["complaints"]})
    at, found = time.time(), cluster.counters()
    await lossy.note(until=at)
    return {
        "actions": dict(lossy.done),
        "deleted": deleted,
        "began_anew": anew,
        "unread": {f"{topic}/{number}": sorted(ranges) for (topic, number), ranges in lossy.unread().items()},
        "sent_and_lost": len(lossy.sent) - len(lossy.read()) - sum(waiting.values()),
        "waiting": {f"{topic}/{number}": count for (topic, number), count in waiting.items()},
        "complaints": complaints,
        **await compare(cluster, lossy.read(), found, lossy.logs()),
    }


async def delete_unread(lossy: Lossy):
    """Delete half of what came while no worker read; returns how many records the workers say are gone."""
    cluster = lossy.cluster
    await lossy.note()
    before = lossy.ends()
    lossy.all_workers(signal.SIGSTOP)
    await lossy.send(EVENTS // 10)
    await lossy.note()
    after = lossy.ends()
    cut = [(RESULTS, 0), (RESULTS, 1), (JOBS, 2)]
    half = {place: (before[place] + after[place]) // 2 for place in cut}
    await delete_before(cluster, {(cluster.settings.topic(topic), n): at for (topic, n), at in half.items()})
    lossy.all_workers(signal.SIGCONT)
    await lossy.until(lambda: len(lossy.unread()) == len(cut), "the loss is said")
    await lossy.settled()
    said = sum(after - first for ranges in lossy.unread().values() for first, after in ranges)
    assert cluster.total("records_deleted_unread") == said
    return said


async def make_again(lossy: Lossy):
    """Make the topic of jobs again while no worker reads; returns how often the workers say that a log began anew."""
    cluster = lossy.cluster
    lossy.all_workers(signal.SIGSTOP)
    await lossy.send(EVENTS // 20)
    await lossy.note()
    await remake(cluster, cluster.settings.topic(JOBS))
    lossy.shift[JOBS] += LOG
    await lossy.send(EVENTS // 50)  # shorter than it was, so that nobody can take it for the old one
    lossy.all_workers(signal.SIGCONT)
    everywhere = cluster.settings.partitions
    await lossy.until(lambda: cluster.total("logs_began_anew") == everywhere, "every log is known to be another")
    await lossy.settled()
    return cluster.total("logs_began_anew")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_that_loses_logs_is_exact_in_all_the_rest(bootstrap, tmp_path, seed):
    # Past the session time-out a worker would let go of what it holds, and what it had read and not checkpointed
    # would be what a kill -9 loses: to be read again, where it is not gone.
    cluster = Cluster(bootstrap, tmp_path, closing=CLOSING, session_timeout_seconds=20)
    try:
        report = asyncio.run(prove(cluster, seed))
    finally:
        cluster.end()
    report["differences"] = {str(key): pair for key, pair in report["differences"].items() if key[0] not in _OF_LOSSES}
    sys.stdout.write("\n" + json.dumps(report) + "\n")
    is_exact(report)
    assert report["deleted"] > EVENTS / 200
    assert report["sent_and_lost"] > report["deleted"]
    assert report["began_anew"] == cluster.settings.partitions
    assert report["actions"]["kill"] == 3 * HURTS["kills"]
    for place, count in report["waiting"].items():
        topic, number = place.split("/")
        assert any(f"{count} records of partition {number}" in text and topic in text for text in report["complaints"])
