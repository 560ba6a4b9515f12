"""Checkpoints in a compacted Kafka topic: state and positions together, in pieces, with a manifest last.

A checkpoint of one stage and partition is a run of pieces, each under a key of its own, then a manifest that names
them. Only what a manifest names counts, so a checkpoint that was cut short is as if it had never been begun. Pieces are
never overwritten; when a newer manifest is durable, the older one's pieces are deleted with tombstones. A worker that
lost its partitions without noticing writes checkpoints that are old but consistent in themselves: restoring one costs
time, never correctness.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec import Meta, Struct

from app.stream.protocol import Notes
from app.unreadable import UNREADABLE

#: Below the 1 MiB that brokers take by default.
PIECE_BYTES: Final = 900_000
_MANIFEST: Final = b"/manifest"
_NOTES: Final = b"/notes"
_LOOK_BACK: Final = (64, 4_096, 262_144)
_READ_SECONDS: Final = 60.0
_NO_NOTES: Final = Notes()
#: Nobody has a state of 90 GB; a number beyond it is damage, and not to be made room for.
_MOST_PIECES: Final = 100_000


class Manifest(Struct, frozen=True):
    """What a checkpoint consists of. `digest` is the SHA-256 of the state."""

    checkpoint: str
    positions: dict[str, Annotated[int, Meta(ge=0)]]
    #: Offset of the first piece in the checkpoint topic; -1 without pieces.
    first: Annotated[int, Meta(ge=-1)]
    pieces: Annotated[int, Meta(ge=0, le=_MOST_PIECES)]
    size: int
    digest: str
    #: Manifests of earlier versions have none.
    notes: Notes = Notes()


class CheckpointError(RuntimeError):
    """A checkpoint that its manifest promises cannot be read, or is of no use to this version."""


def way_out(topic: str, name: str, partition: int) -> str:
    """Say how the checkpoint of one stage and partition is dropped, and what that costs.

    Parameters
    ----------
    topic
        Full name of the checkpoint topic.
    name, partition
        As of `CheckpointStore.read`.
    """
    key = (name.encode() + _MANIFEST).decode()
    return (
        f"If it was written by another version, run that version. Else drop it, which writes a tombstone for its "
        f"manifest: printf '{key}|' | kcat -P -b BROKER -t {topic} -p {partition} -K '|' -Z. Its partition is then "
        f"read again from the beginning of what Kafka has kept; what is older than that, totals and open runs, is lost"
    )


class CheckpointStore:
    """Checkpoints in one topic; partition p of it holds those of partition p of the inputs.

    Parameters
    ----------
    producer
        Started; `acks=all`.
    consumer
        Started; outside any group. Used for nothing else.
    topic
        Full name of the checkpoint topic.
    """

    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._producer = producer
        self._consumer = consumer
        self._topic = topic
        self._reading = asyncio.Lock()
        #: One at a time: what is written last must be what was known last.
        self._writing: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._previous: dict[tuple[str, int], Manifest] = {}

    async def write(
        self, name: str, partition: int, positions: Mapping[str, int], state: bytes, notes: Notes = _NO_NOTES
    ) -> None:
        """Write a checkpoint and return when it is durable.

        Raises
        ------
        aiokafka.errors.KafkaError
            If the broker does not take it.
        """
        async with self._writing[name, partition]:
            checkpoint = uuid.uuid4().hex
            first = -1
            for index, start in enumerate(range(0, len(state), PIECE_BYTES)):
                piece = state[start : start + PIECE_BYTES]
                written = await self._producer.send_and_wait(
                    self._topic, piece, key=_piece_key(name, checkpoint, index), partition=partition
                )
                first = written.offset if index == 0 else first
            pieces = -(-len(state) // PIECE_BYTES)
            manifest = Manifest(
                checkpoint, dict(positions), first, pieces, len(state), sha256(state).hexdigest(), notes
            )
            await self._put(name.encode() + _MANIFEST, partition, manifest)
            await self._delete(name, partition, self._previous.get((name, partition)))
            self._previous[name, partition] = manifest

    async def note(self, name: str, partition: int, notes: Notes) -> None:
        """Write notes that hold instead of those of the last checkpoint, until the next; return when they are durable.

        They are a record of their own: a manifest that is written again may name pieces that another writer deleted.

        Raises
        ------
        aiokafka.errors.KafkaError
            If the broker does not take them.
        """
        async with self._writing[name, partition]:
            await self._put(name.encode() + _NOTES, partition, notes)

    async def _put(self, key: bytes, partition: int, value: Struct) -> None:
        await self._producer.send_and_wait(self._topic, msgspec.msgpack.encode(value), key=key, partition=partition)

    async def _delete(self, name: str, partition: int, manifest: Manifest | None) -> None:
        if manifest is not None:
            for index in range(manifest.pieces):
                key = _piece_key(name, manifest.checkpoint, index)
                await self._producer.send(self._topic, None, key=key, partition=partition)

    async def read(self, name: str, partition: int) -> tuple[dict[str, int], bytes, Notes] | None:
        """The positions, state and notes of the last complete checkpoint, or None where there is none.

        Raises
        ------
        CheckpointError
            If the manifest is there and its pieces are not.
        """
        async with self._reading:
            tp = TopicPartition(self._topic, partition)
            self._consumer.assign([tp])
            begin = (await self._consumer.beginning_offsets([tp]))[tp]
            end = await end_offset(self._consumer, tp)
            manifest, notes = await self._last(tp, name, begin, end)
            if manifest is None:
                return ({}, b"", notes) if notes is not None else None
            state = await self._pieces(tp, name, manifest, end)
        self._previous[name, partition] = manifest
        return dict(manifest.positions), state, notes or manifest.notes

    def unusable(self, name: str, partition: int, error: Exception) -> str:
        """Say that a checkpoint was read whole and cannot be continued from, why, and what to do."""
        return (
            f"the checkpoint of {name} in {self._topic}/{partition} cannot be used by this version: {error}. "
            f"{way_out(self._topic, name, partition)}"
        )

    async def _last(self, tp: TopicPartition, name: str, begin: int, end: int) -> tuple[Manifest | None, Notes | None]:
        """The last manifest and the last notes after it.

        They are looked for from the end in growing steps: a checkpoint's last record is its manifest.
        """
        manifest_key, notes_key = name.encode() + _MANIFEST, name.encode() + _NOTES
        found: Any = None
        noted: bytes | None = None
        for step in (*_LOOK_BACK, end):
            start = max(begin, end - step)
            found = noted = None
            async for record in self._records(tp, start, end):
                if record.key == manifest_key:
                    found, noted = record, None
                elif record.key == notes_key and record.value:
                    noted = record.value
            if found is not None or start == begin:
                break
        try:
            notes = None if noted is None else msgspec.msgpack.decode(noted, type=Notes)
            if found is None or not found.value:  # there is none, or somebody dropped it
                return None, notes
            return msgspec.msgpack.decode(found.value, type=Manifest), notes
        except UNREADABLE as error:
            said = f"the manifest of {name} in {tp.topic}/{tp.partition} was damaged in Kafka: {error}"
            raise CheckpointError(f"{said}. {way_out(tp.topic, name, tp.partition)}") from error

    async def _pieces(self, tp: TopicPartition, name: str, manifest: Manifest, end: int) -> bytes:
        wanted = {_piece_key(name, manifest.checkpoint, index): index for index in range(manifest.pieces)}
        pieces: dict[int, bytes] = {}
        if wanted:
            async for record in self._records(tp, manifest.first, end):
                index = wanted.get(record.key or b"")
                if index is not None and record.value is not None:
                    pieces[index] = record.value
                if len(pieces) == len(wanted):
                    break
        state = b"".join(pieces[index] for index in sorted(pieces))
        if len(state) != manifest.size or sha256(state).hexdigest() != manifest.digest:
            raise CheckpointError(
                f"checkpoint {manifest.checkpoint} of {name} in {tp.topic}/{tp.partition} was damaged in Kafka: "
                f"{len(state)} of {manifest.size} bytes are there, or not those that were written. "
                f"{way_out(tp.topic, name, tp.partition)}"
            )
        return state

    async def _records(self, tp: TopicPartition, start: int, end: int):  # type: ignore[no-untyped-def]
        """The records of [start, end), as long as there are any: compaction and markers leave holes."""
        if start >= end:
            return
        self._consumer.seek(tp, start)
        deadline = asyncio.get_running_loop().time() + _READ_SECONDS
        while await self._consumer.position(tp) < end:
            if asyncio.get_running_loop().time() > deadline:
                raise CheckpointError(f"reading {tp.topic}/{tp.partition} took more than {_READ_SECONDS:.0f} s")
            for records in (await self._consumer.getmany(tp, timeout_ms=500)).values():
                for record in records:
                    if record.offset >= end:
                        return
                    yield record


async def end_offset(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int:
    """The offset after the last record of an assigned partition.

    Asked of a fetch, not of ListOffsets: Tansu 0.6.0 answers the latter with the base offset of the last batch plus
    one, however many records the batch has.
    """
    end = int((await consumer.end_offsets([tp]))[tp])
    if end == 0:
        return 0
    consumer.seek(tp, end - 1)
    deadline = asyncio.get_running_loop().time() + _READ_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        fetched = await consumer.getmany(tp, timeout_ms=200)
        # Nothing but a transaction marker may stand at the end; the position has then moved over it.
        if any(fetched.values()) or await consumer.position(tp) >= end:
            return max(end, int(consumer.highwater(tp) or 0))
    raise CheckpointError(f"{tp.topic}/{tp.partition} did not answer within {_READ_SECONDS:.0f} s")


def _piece_key(name: str, checkpoint: str, index: int) -> bytes:
    return f"{name}/{checkpoint}/{index}".encode()
