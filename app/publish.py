"""Records into Kafka, from the load generator or a file."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from simulators.traffic import Message

#: A paced publisher sleeps at least this long, so that records go in slices rather than one by one.
_SLICE_SECONDS: Final = 0.01
#: Sends that may wait for the broker at once.
_IN_FLIGHT: Final = 10_000


async def publish(
    producer: AIOKafkaProducer,
    messages: Iterable[Message],
    topic: Callable[[str], str],
    *,
    paced: bool,
    progress: Callable[[int], None] = lambda sent: None,
) -> int:
    """Publish messages and return how many, once the broker has all of them.

    Parameters
    ----------
    producer
        Started.
    messages
        What to publish, in order.
    topic
        Short name -> full name of a topic.
    paced
        Whether to publish each record at its own time, or all as fast as the broker takes them.
    progress
        Told now and then how many were sent.
    """
    sent = 0
    pending: list[asyncio.Future[RecordMetadata]] = []
    for message in messages:
        if paced and message.at > time.time():
            progress(sent)
            await asyncio.sleep(max(_SLICE_SECONDS, message.at - time.time()))
        pending.append(
            await producer.send(topic(message.topic), message.value, key=message.key, headers=[*message.headers])
        )
        sent += 1
        if len(pending) >= _IN_FLIGHT:
            await asyncio.gather(*pending)
            pending.clear()
    await asyncio.gather(*pending)
    progress(sent)
    return sent
