"""A topic that is followed: every record, once and in order, however often the brokers are asked for its end."""

import asyncio
import time

import pytest
from cluster import Cluster

from app import follow, kafka
from app.conventions import ALERTS

pytestmark = pytest.mark.broker


def test_no_record_is_passed_over_while_the_ends_are_asked_for(bootstrap, tmp_path):
    cluster = Cluster(bootstrap, tmp_path)
    asyncio.run(cluster.topics())
    settings = cluster.settings
    topic, taken, sent = settings.topic(ALERTS), [], 300

    async def run():
        producer = await kafka.connected(kafka.producer(settings), settings)
        reader = await kafka.connected(kafka.consumer(settings), settings)
        followed = follow.Follow(
            reader, [topic], settings.partitions, lambda record: taken.append(record.value), ask_seconds=0.01
        )
        running = asyncio.ensure_future(followed.run())
        try:
            for number in range(sent):
                await producer.send_and_wait(topic, str(number).encode(), key=b"k", partition=0)
            async with asyncio.timeout(30):
                while len(taken) < sent and not running.done():
                    await asyncio.sleep(0.05)
            assert time.time() - followed.read_at < 5
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await reader.stop()
            await producer.stop()

    asyncio.run(run())
    assert taken == [str(number).encode() for number in range(sent)]
