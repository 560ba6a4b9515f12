"""Logs that are not as they were left: records deleted unread, topics made again, partitions added."""

import asyncio
import signal
import time

import pytest
from administering import delete_before, enlarge, remake
from aiokafka import TopicPartition
from cluster import Cluster
from records import dump, event

from app import follow, kafka
from app.conventions import ALERTS, JOBS
from app.stream.logs import LogReader, Mark
from simulators.traffic import Message

pytestmark = pytest.mark.broker


def started(prefix, count):
    """So many events, each of a run of its own."""
    now = time.time()
    runs = [f"{prefix}-{number}" for number in range(count)]
    return [Message(now, JOBS, run.encode(), dump(event("started", run, at=now))) for run in runs]


def applied(cluster, count):
    cluster.await_(
        lambda: cluster.total("events_applied") == count and cluster.total("lag") <= 4, 60, f"{count} applied"
    )


def metric(worker, name, **labels):
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    lines = [line for line in worker.page("/metrics").splitlines() if line.startswith(f"qethics_{name}{{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(one in line for one in wanted))


@pytest.fixture
def single(bootstrap, tmp_path):
    made = Cluster(bootstrap, tmp_path, partitions=1)
    asyncio.run(made.topics())
    yield made
    made.end()


@pytest.mark.real_kafka
def test_records_deleted_while_a_worker_reads_are_counted_and_the_rest_is_read(single):
    worker = single.start()
    single.await_ready()
    asyncio.run(single.produce(started("a", 100)))
    applied(single, 100)
    worker.send(signal.SIGSTOP)
    asyncio.run(single.produce(started("b", 1000)))
    before = worker_log_end(single) - 300

    asyncio.run(delete_before(single, {(single.settings.topic(JOBS), 0): before}))
    worker.send(signal.SIGCONT)
    single.await_(lambda: metric(worker, "records_deleted_unread_total", topic=JOBS) > 0, 60, "the loss counted")
    single.await_(lambda: single.total("lag") <= 4, 60, "the rest read")
    status = worker.status()
    beats = before + 300 - 1100  # heartbeats have offsets as well
    assert status["events_applied"] >= 400 - beats
    assert 1100 <= status["events_applied"] + status["records_deleted_unread"] <= 1100 + beats
    assert "were deleted unread" in worker.log.read_text()


def worker_log_end(cluster):
    async def ask():
        consumer = await kafka.connected(kafka.consumer(cluster.settings), cluster.settings)
        tp = TopicPartition(cluster.settings.topic(JOBS), 0)
        end = (await consumer.end_offsets([tp]))[tp]
        await consumer.stop()
        return end

    return asyncio.run(ask())


@pytest.mark.real_kafka
@pytest.mark.parametrize("grown", [False, True], ids=["shorter than it was", "grown past the old position"])
def test_topics_that_are_made_again_while_the_worker_is_down_are_read_from_their_beginning(single, grown):
    worker = single.start()
    single.await_ready()
    asyncio.run(single.produce(started("a", 50)))
    applied(single, 50)
    worker.send(signal.SIGTERM)
    worker.process.wait(30)
    asyncio.run(remake(single, single.settings.topic(JOBS)))
    asyncio.run(single.produce(started("b", 300 if grown else 20)))
    worker = single.start()
    applied(single, 350 if grown else 70)
    assert metric(worker, "logs_began_anew_total", topic=JOBS) == 1
    assert "the log began anew" in worker.log.read_text()
    # And once more from its own checkpoint: nothing is read twice, nothing is said again.
    worker.send(signal.SIGTERM)
    worker.process.wait(30)
    asyncio.run(single.produce(started("c", 10)))
    worker = single.start()
    applied(single, 360 if grown else 80)
    assert metric(worker, "logs_began_anew_total") == 0
    assert single.total("duplicates") == 0


@pytest.mark.real_kafka
def test_a_topic_that_is_made_again_while_the_worker_reads_is_read_from_its_beginning(single):
    """Until the worker can know, it reads on where it was; what it had passed over by then is read after all."""
    worker = single.start()
    single.await_ready()
    asyncio.run(single.produce(started("a", 50)))
    applied(single, 50)
    asyncio.run(asyncio.sleep(6))  # a look has marked the log
    worker.send(signal.SIGSTOP)
    asyncio.run(remake(single, single.settings.topic(JOBS)))
    asyncio.run(single.produce(started("b", 400)))
    worker.send(signal.SIGCONT)
    single.await_(lambda: metric(worker, "logs_began_anew_total", topic=JOBS) == 1, 60, "it is said")
    applied(single, 450)
    assert worker.alive


@pytest.mark.real_kafka
def test_partitions_that_are_added_are_said_and_what_is_in_them_waits(single):
    worker = single.start()
    single.await_ready()
    topic = single.settings.topic(JOBS)

    async def write(partition):
        producer = await kafka.connected(kafka.producer(single.settings), single.settings)
        for number in range(7):
            await producer.send_and_wait(topic, b"{}", key=b"%d" % number, partition=partition)
        await producer.stop()

    asyncio.run(enlarge(single, 3, topic))
    asyncio.run(write(2))
    single.await_(lambda: worker.status()["lag"] >= 7, 30, "what nobody reads waits")
    assert metric(worker, "partitions_beyond", topic=JOBS) == 2
    assert metric(worker, "lag_records", topic=JOBS, partition=2) == 7
    assert worker.page("/readyz") is None
    complaint = "it has 3 partitions, 1 are read; what is written to 1 to 2 is not (waiting: 7 records of partition 2)"
    assert complaint in worker.status()["complaints"][0]
    # One that is started then serves what there was as well: a restart is no standstill.
    worker.send(signal.SIGKILL)
    worker.process.wait(30)
    worker = single.start()
    asyncio.run(write(0))
    single.await_(lambda: worker.status()["dead_letters"] == 7, 60, "the partition there was is read on")
    single.await_(lambda: complaint in worker.status()["complaints"][0], 30, "it says so as well")
    assert worker.page("/readyz") is None


@pytest.mark.real_kafka
def test_a_follower_starts_over_when_its_topic_is_made_again(single):
    settings, taken = single.settings, []
    topic = settings.topic(ALERTS)

    async def run():
        producer = await kafka.connected(kafka.producer(settings), settings)
        reader = await kafka.connected(kafka.consumer(settings), settings)
        followed = follow.Follow(reader, [topic], 1, lambda record: taken.append(record.value), ask_seconds=0.2)
        running = asyncio.ensure_future(followed.run())

        async def send(prefix, count):
            for number in range(count):
                await producer.send_and_wait(topic, f"{prefix}{number}".encode(), key=b"k", partition=0)

        async def until(condition):
            async with asyncio.timeout(40):
                while not condition():
                    assert not running.done(), running
                    await asyncio.sleep(0.05)

        try:
            await send("a", 5)
            await until(lambda: len(taken) == 5 and followed._marks)
            await remake(single, topic)
            await send("b", 9)
            await until(lambda: taken[-9:] == [f"b{number}".encode() for number in range(9)])
            assert sum(followed.began_anew.values()) == 1
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await reader.stop()
            await producer.stop()

    asyncio.run(run())


def test_a_record_that_was_read_is_known_again_and_another_is_not(single):
    settings, topic = single.settings, single.settings.topic(JOBS)
    tp = TopicPartition(topic, 0)

    async def run():
        producer = await kafka.connected(kafka.producer(settings), settings)
        reader = await kafka.connected(kafka.consumer(settings, auto_offset_reset="none"), settings)
        try:
            for number in range(20):
                await producer.send_and_wait(topic, b"%d" % number, key=b"k", partition=0)
            found = (await single.read(JOBS))[0]
            logs = LogReader(reader)
            for record in (found[0], found[7], found[19]):
                assert await logs.replaced({tp: Mark.of(record, record.offset)}) == {}
            assert await logs.replaced({tp: Mark(19)}) == {}
            assert "another" in (await logs.replaced({tp: Mark.of(found[6], 7)}))[tp]
            assert "ends" in (await logs.replaced({tp: Mark(20)}))[tp]
            assert await logs.backlog([tp]) == {tp: 20}
        finally:
            await reader.stop()
            await producer.stop()

    asyncio.run(run())
