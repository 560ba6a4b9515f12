"""What somebody with rights on the brokers does to topics: makes them again, cuts them off, adds partitions."""

import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete

from app import kafka


async def administer(cluster, *steps):
    """Let each step, which is given an administrator's client, do its work."""
    admin = await kafka.connected(kafka.admin(cluster.settings), cluster.settings)
    try:
        for step in steps:
            await step(admin)
    finally:
        await admin.close()


async def remake(cluster, *topics):
    """Delete topics, by full name, and make them again as they were."""
    partitions = cluster.settings.partitions

    async def gone(admin):
        await admin.delete_topics(list(topics))
        while set(topics) & set(await admin.list_topics()):
            await asyncio.sleep(0.1)

    async def made(admin):
        wanted = [NewTopic(topic, partitions, 1) for topic in topics]
        while any(code for _, code, *_ in (await admin.create_topics(wanted)).topic_errors):
            await asyncio.sleep(0.2)

    await administer(cluster, gone, made)


async def delete_before(cluster, beginnings):
    """Delete the records before an offset; `beginnings` is (topic by full name, partition) -> offset."""
    wanted = {TopicPartition(*place): RecordsToDelete(before_offset=at) for place, at in beginnings.items()}
    await administer(cluster, lambda admin: admin.delete_records(wanted))


async def enlarge(cluster, partitions, *topics):
    """Give topics, by full name, so many partitions."""
    wanted = {topic: NewPartitions(partitions) for topic in topics}
    await administer(cluster, lambda admin: admin.create_partitions(wanted))
