"""Records that stand ready to be read, with what a consumer of aiokafka is asked for."""

import asyncio

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord, OffsetAndTimestamp


class Shelf:
    """Stands for a consumer of the topics it was given; every one has its records in partition 0.

    Parameters
    ----------
    topics
        Full name of a topic -> its records, by offset from 0 on.
    """

    def __init__(self, topics):
        self._logs = {
            TopicPartition(topic, 0): [
                ConsumerRecord(topic, 0, each.offset, each.timestamp, 0, each.key, each.value, None, 0, 0, each.headers)
                for each in records
            ]
            for topic, records in topics.items()
        }
        self._places = dict.fromkeys(self._logs, 0)
        #: Set when everything was handed out and somebody asks for more: what was handed out is taken in.
        self.is_empty = asyncio.Event()
        #: How often what was handed out was asked for again.
        self.asked_again = 0

    async def start(self):
        """There is nothing to start."""

    async def stop(self):
        """Nor to stop."""

    def assign(self, tps):
        assert set(tps) <= set(self._logs)

    def subscribe(self, topics):
        self.assign(TopicPartition(topic, 0) for topic in topics)

    def seek(self, tp, offset):
        if offset < 0:
            raise ValueError("Offset must be a positive integer")  # as aiokafka does
        self._places[tp] = offset

    async def seek_to_beginning(self, *tps):
        self._places |= dict.fromkeys(tps or self._logs, 0)

    async def position(self, tp):
        return self._places[tp]

    async def beginning_offsets(self, tps):
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps):
        return {tp: len(self._logs[tp]) for tp in tps}

    async def offsets_for_times(self, times):
        return {tp: OffsetAndTimestamp(0, 1) if at == 0 else None for tp, at in times.items()}

    def highwater(self, tp):
        return len(self._logs[tp])

    async def getmany(self, *tps, timeout_ms=0, max_records=500):
        await asyncio.sleep(0)
        found = {}
        for tp in tps or self._logs:
            place = self._places[tp]
            if records := self._logs[tp][place : place + max_records]:
                found[tp] = records
                self._places[tp] = place + len(records)
        if not found:
            self.is_empty.set()
            await asyncio.sleep(0.001)
        return found

    async def commit(self):
        """What was handed out is not handed out again in any case."""

    async def seek_to_committed(self):
        self.asked_again += 1


async def drained(shelf, work):
    """Let something read a shelf empty that has no end of its own; should it end before, that is raised."""
    reading = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(shelf.is_empty.wait())
    await asyncio.wait([reading, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if reading.done():
        reading.result()
        raise AssertionError("what never ends has ended")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
