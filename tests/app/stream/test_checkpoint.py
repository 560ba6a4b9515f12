"""Checkpoints on a real broker: large ones, cut ones, several writers."""

import asyncio
import re

import msgspec
import pytest
from aiokafka import TopicPartition
from cluster import Cluster

from app import kafka
from app.stream.checkpoint import PIECE_BYTES, CheckpointError, CheckpointStore, Manifest, end_offset
from app.stream.logs import Mark
from app.stream.protocol import Notes, Suspect

pytestmark = pytest.mark.broker
POSITIONS = {"jobs": 12, "results": 34}


@pytest.fixture
def run(bootstrap, tmp_path):
    cluster = Cluster(bootstrap, tmp_path)

    def run(scenario):
        async def main():
            await cluster.topics()
            settings = cluster.settings
            producer = await kafka.connected(kafka.producer(settings, max_batch_size=900_000), settings)
            options = {"max_partition_fetch_bytes": 2**23, "fetch_max_wait_ms": 20}
            reader = await kafka.connected(kafka.consumer(settings, **options), settings)
            try:
                return await scenario(
                    lambda: CheckpointStore(producer, reader, settings.topic("checkpoints")), producer, settings
                )
            finally:
                await producer.stop()
                await reader.stop()

        return asyncio.run(main())

    return run


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 17])
def test_what_was_written_is_read(run, size):
    state = bytes(index % 251 for index in range(1000)) * (size // 1000) + b"x" * (size % 1000)

    async def scenario(store, producer, settings):
        await store().write("g/runs", 1, POSITIONS, state)
        return await store().read("g/runs", 1)

    assert run(scenario) == (POSITIONS, state, Notes())


def test_notes_are_kept_beside_a_checkpoint_and_beside_none(run):
    marks, suspects = {"jobs": Mark(11, 1, "ab")}, (Suspect("jobs", 5, 9, 1, "why"),)

    async def scenario(store, producer, settings):
        await store().note("g/new", 0, Notes(marks, suspects))
        writer = store()
        await writer.write("g/runs", 0, POSITIONS, b"state", Notes(marks))
        await writer.note("g/runs", 0, Notes(marks, suspects))
        noted = await store().read("g/new", 0), await store().read("g/runs", 0)
        await writer.write("g/runs", 0, POSITIONS, b"state", Notes(marks))
        return *noted, await store().read("g/runs", 0)

    noted = Notes(marks, suspects)
    assert run(scenario) == (({}, b"", noted), (POSITIONS, b"state", noted), (POSITIONS, b"state", Notes(marks)))


def test_notes_of_a_writer_that_lost_its_place_leave_the_checkpoint_of_its_heir(run):
    async def scenario(store, producer, settings):
        zombie, heir = store(), store()
        await zombie.write("g/runs", 0, {"jobs": 1}, b"old")
        await heir.read("g/runs", 0)
        await heir.write("g/runs", 0, {"jobs": 2}, b"new")
        await zombie.note("g/runs", 0, Notes(suspects=(Suspect("jobs", 1, 2, 1, "why"),)))
        return (await store().read("g/runs", 0))[:2]

    assert run(scenario) == ({"jobs": 2}, b"new")


def test_a_checkpoint_of_an_earlier_version_is_read():
    earlier = {"checkpoint": "c", "positions": POSITIONS, "first": 0, "pieces": 1, "size": 1, "digest": "d"}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(earlier), type=Manifest).notes == Notes()


def test_the_last_one_counts_and_names_do_not_mix(run):
    async def scenario(store, producer, settings):
        one = store()
        for number in range(30):
            await one.write("g/runs", 0, {"jobs": number}, b"runs%d" % number)
            await one.write("g/streams", 0, {"samples": number}, b"streams%d" % number)
        assert await store().read("other/runs", 0) is None
        assert await store().read("g/runs", 1) is None
        return await store().read("g/runs", 0), await store().read("g/streams", 0)

    assert run(scenario) == (({"jobs": 29}, b"runs29", Notes()), ({"samples": 29}, b"streams29", Notes()))


def test_pieces_without_a_manifest_are_as_if_never_begun(run):
    async def scenario(store, producer, settings):
        await store().write("g/runs", 0, POSITIONS, b"whole")
        for index in range(200):
            await producer.send_and_wait(
                settings.topic("checkpoints"), b"cut", key=b"g/runs/cut/%d" % index, partition=0
            )
        return await store().read("g/runs", 0)

    assert run(scenario) == (POSITIONS, b"whole", Notes())


def test_two_writers_that_do_not_know_of_each_other_leave_a_whole_checkpoint(run):
    async def scenario(store, producer, settings):
        zombie, heir = store(), store()
        await zombie.write("g/runs", 0, {"jobs": 1}, b"old" * PIECE_BYTES)
        await heir.read("g/runs", 0)
        await asyncio.gather(
            heir.write("g/runs", 0, {"jobs": 2}, b"new" * PIECE_BYTES),
            zombie.write("g/runs", 0, {"jobs": 1}, b"old" * PIECE_BYTES),
        )
        return await store().read("g/runs", 0)

    positions, state, _ = run(scenario)
    assert state == {1: b"old", 2: b"new"}[positions["jobs"]] * PIECE_BYTES


def test_a_manifest_whose_pieces_are_gone_is_an_error_not_an_empty_state(run):
    async def scenario(store, producer, settings):
        manifest = msgspec.msgpack.encode(Manifest("none", POSITIONS, 0, 2, 10, "0" * 64))
        await producer.send_and_wait(settings.topic("checkpoints"), manifest, key=b"g/runs/manifest", partition=0)
        with pytest.raises(CheckpointError, match="0 of 10 bytes are there"):
            await store().read("g/runs", 0)

    run(scenario)


@pytest.mark.parametrize("damage", ["manifest", "piece", "version"])
def test_a_checkpoint_of_no_use_says_whose_fault_it_is_and_what_it_says_to_do_drops_it(run, damage):
    async def scenario(store, producer, settings):
        topic = settings.topic("checkpoints")
        await store().write("g/runs", 0, POSITIONS, b"whole")
        if damage == "version":
            said = store().unusable("g/runs", 0, ValueError("the snapshot has version 1, this code reads 2"))
        else:
            manifest = msgspec.msgpack.encode(Manifest("none", POSITIONS, 0, 2, 10, "0" * 64))
            value = b"\xc1" if damage == "manifest" else manifest
            await producer.send_and_wait(topic, value, key=b"g/runs/manifest", partition=0)
            with pytest.raises(CheckpointError) as raised:
                await store().read("g/runs", 0)
            said = str(raised.value)
        assert f"{topic}/0" in said
        assert "cannot be used by this version" in said if damage == "version" else "was damaged in Kafka" in said
        named = re.search(r"printf '(\S+)\|' \| kcat -P -b BROKER -t (\S+) -p (\d+) -K '\|' -Z", said)
        assert named is not None
        # What the command does: a record without a value under the key it names.
        await producer.send_and_wait(named[2], None, key=named[1].encode(), partition=int(named[3]))
        return await store().read("g/runs", 0)

    assert run(scenario) is None


def test_the_end_of_a_partition_is_after_its_last_record_however_records_were_batched(run):
    async def scenario(store, producer, settings):
        ends = []
        for count in (5, 1, 3):
            batch = producer.create_batch()
            for _ in range(count):
                batch.append(key=None, value=b"x", timestamp=None)
            await (await producer.send_batch(batch, settings.topic("alerts"), partition=0))
            reader = await kafka.connected(kafka.consumer(settings), settings)
            tp = TopicPartition(settings.topic("alerts"), 0)
            reader.assign([tp])
            ends.append(await end_offset(reader, tp))
            await reader.stop()
        return ends

    assert run(scenario) == [5, 6, 9]
