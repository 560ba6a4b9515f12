"""The shell: delivers batches to stages, outcomes to sinks, and makes both durable in the right order.

The way of a batch, in `process`: the stage of its partition applies it -> outcomes go to the sinks -> later, a
checkpoint (state and positions together) is written once the outcomes it contains are durable -> only then are the
positions committed. Anything that goes wrong on this way ends the process at once: whoever supervises restarts it, and
it continues from the last checkpoint.
"""

import asyncio
import logging
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from faust.types import TP

from app.conventions import EXIT_FAIL_STOP
from app.stream.ages import Ages
from app.stream.checkpoint import CheckpointError
from app.stream.protocol import Batch, Kind, Sinks, Stage, Store, Traces

log = logging.getLogger("qethics.shell")

#: Checkpoints may take this share of a worker's time; the larger the state, the rarer they are.
_CHECKPOINT_SHARE: Final = 0.05
#: Writing a state down costs about as much as putting it together: its digest, its way through the producer.
_WRITING: Final = 2.0


class Unit:
    """One stage of one partition number, with the position of every topic it reads."""

    def __init__(self, kind: Kind, partition: int) -> None:
        self.kind = kind
        self.partition = partition
        self.stage: Stage = kind.build(partition)
        self.positions: dict[str, int] = {}
        #: When it last took anything in.
        self.applied_at = time.time()
        self.writing: asyncio.Future[None] | None = None
        #: Topic -> the offset of the first heartbeat that was written for it since it was made.
        self.first_beats: dict[str, int] = {}
        self.checkpointed: dict[str, int] = {}
        self.checkpointed_at = time.time()
        self.next_checkpoint = 0.0
        #: Seconds of this process that the last checkpoint took.
        self.cost = 0.0
        self.lock = asyncio.Lock()

    @property
    def has_caught_up(self) -> bool:
        """Whether all that was in the logs when it was made has been taken in: a heartbeat from then on came through.

        By places in the log and not by clocks: one that is set back would hide a partition for as long.
        """
        beats = self.first_beats
        return all(name in beats and self.positions.get(name, 0) > beats[name] for name in self.kind.topics)


class Shell:
    """Everything between Kafka and the stages.

    Parameters
    ----------
    deployment
        Whose checkpoints they are; two groups on one set of topics do not get in each other's way.
    kinds
        The stages there are.
    sinks, store
        Where outcomes and checkpoints go.
    commit
        Tells the group which positions are durable.
    beginnings
        The first offset that each partition still has.
    beat
        Puts a heartbeat into a partition of a topic (its short name), and returns its offset.
    topic
        Short name -> full name of a topic.
    client_options, consumer_options
        How the consumer connects and fetches.
    checkpoint_seconds, heartbeat_seconds, stall_seconds
        See `Settings`.
    """

    def __init__(
        self,
        *,
        deployment: str,
        kinds: Sequence[Kind],
        sinks: Sinks,
        store: Store,
        commit: Callable[[dict[TP, int]], Awaitable[Any]],
        beginnings: Callable[[Iterable[TP]], Awaitable[dict[TP, int]]],
        beat: Callable[[str, int], Awaitable[int]],
        topic: Callable[[str], str],
        client_options: dict[str, Any],
        consumer_options: dict[str, Any],
        checkpoint_seconds: float,
        heartbeat_seconds: float,
        stall_seconds: float,
        traces: Traces | None = None,
    ) -> None:
        #: Counts the restores; a batch of an earlier one is void.
        self.generation = 0
        self.client_options = client_options
        self.consumer_options = consumer_options
        self.units: dict[tuple[str, int], Unit] = {}
        self.ages = Ages()
        self.lost: dict[TP, int] = {}
        #: Offsets that hold no record: markers of transactions, and what compaction removed.
        self.skipped = 0
        self.restored_seconds = 0.0
        self.ready = False
        self._deployment = deployment
        self._kinds = {topic(name): (kind, name) for kind in kinds for name in kind.topics}
        self._topic = topic
        self._sinks = sinks
        self._store = store
        self._commit = commit
        self._beginnings = beginnings
        self._beat = beat
        self._checkpoint_seconds = checkpoint_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._stall_seconds = stall_seconds
        self._traces = traces
        self._durable: dict[TP, int] = {}
        self._progress_at = time.monotonic()

    @property
    def topics(self) -> list[str]:
        """Full names of the topics to subscribe to."""
        return list(self._kinds)

    # -- the way of a batch ------------------------------------------------------------------------------------------

    async def process(self, batch: Batch) -> None:
        """Apply a batch and send its outcomes on their way."""
        kind, name = self._kinds[batch.topic]
        if kind.prepare is not None:
            await kind.prepare(batch._replace(topic=name))
        unit = self.units.get((kind.name, batch.partition))
        while unit is not None and unit.writing is not None and not unit.writing.done():
            # One write of a partition at a time, so that what is derived from it arrives in order.
            await asyncio.shield(unit.writing)
        if unit is None or not self._held(unit):
            return  # revoked while it was waiting; the next owner continues from the checkpoint
        if batch.generation != self.generation:
            return  # it waited through a rebalance; what it holds is fetched again from the restored position
        if batch.first != unit.positions[name]:
            raise RuntimeError(f"{batch.topic}/{batch.partition}: {batch.first} does not join {unit.positions[name]}")
        self.skipped += batch.next - batch.first - len(batch.records)
        taken_at = time.time()
        outcomes = unit.stage.apply(batch._replace(topic=name))
        unit.positions[name] = batch.next
        unit.applied_at = applied_at = time.time()
        unit.writing = asyncio.ensure_future(self._write(batch, outcomes, taken_at, applied_at))
        unit.writing.add_done_callback(self._written)
        self._progress_at = time.monotonic()
        self.ages.add(batch.records, applied_at)

    async def _write(self, batch: Batch, outcomes: Any, taken_at: float, applied_at: float) -> None:
        await self._sinks.write(batch.partition, outcomes)
        if self._traces is not None:
            self._traces.batch(batch, outcomes, taken_at, applied_at, time.time())

    def _written(self, future: "asyncio.Future[None]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self.fail(error)

    # -- durability --------------------------------------------------------------------------------------------------

    def durable(self, tp: TP) -> int | None:
        """The position up to which everything that follows from a partition is durable; None before the first."""
        return self._durable.get(tp)

    async def checkpoint(self, unit: Unit) -> None:
        """Write a checkpoint of one unit and return when it is durable."""
        async with unit.lock:
            if unit.positions == unit.checkpointed:
                return
            began, began_at = time.monotonic(), time.time()
            # No await between the two: state and positions belong together.
            state, positions = unit.stage.snapshot(), dict(unit.positions)
            unit.cost = _WRITING * (time.monotonic() - began)
            if unit.writing is not None:
                await asyncio.shield(unit.writing)
            await self._store.write(self._name(unit), unit.partition, positions, state)
            unit.checkpointed, unit.checkpointed_at = positions, time.time()
            if self._traces is not None:
                self._traces.checkpoint(unit.kind.name, unit.partition, len(state), began_at, unit.checkpointed_at)
            share = sum(each.cost for each in self.units.values()) / _CHECKPOINT_SHARE
            unit.next_checkpoint = time.monotonic() + max(self._checkpoint_seconds, share)
            self._durable.update(self._by_tp(unit, positions))

    def _name(self, unit: Unit) -> str:
        return f"{self._deployment}/{unit.kind.name}"

    def _by_tp(self, unit: Unit, positions: dict[str, int]) -> dict[TP, int]:
        return {TP(self._topic(name), unit.partition): offset for name, offset in positions.items()}

    async def run_checkpoints(self) -> None:
        """Checkpoint every unit now and then, without end."""
        while True:
            await asyncio.sleep(self._checkpoint_seconds / 8)
            for unit in list(self.units.values()):
                if time.monotonic() >= unit.next_checkpoint and self._held(unit):
                    await self.checkpoint(unit)

    def _held(self, unit: Unit) -> bool:
        return self.units.get((unit.kind.name, unit.partition)) is unit

    # -- coming and going --------------------------------------------------------------------------------------------

    async def restore(self, assigned: set[TP], current: Callable[[], bool]) -> dict[TP, int] | None:
        """Make the units of what is assigned, from their checkpoints; says where to continue.

        None, and nothing is changed, if `current` says at the end that the assignment is no longer the one in force.
        """
        began, began_at = time.monotonic(), time.time()
        wanted = {(self._kinds[tp.topic][0].name, tp.partition): tp for tp in assigned if tp.topic in self._kinds}
        units = [Unit(self._kinds[tp.topic][0], tp.partition) for tp in wanted.values()]
        beginnings = await self._beginnings(assigned)
        positions: dict[TP, int] = {}
        for unit in units:
            found = await self._store.read(self._name(unit), unit.partition)
            if found is not None:
                unit.positions, state = found
                try:
                    unit.stage.restore(state)
                except ValueError as error:
                    raise CheckpointError(self._store.unusable(self._name(unit), unit.partition, error)) from error
                unit.checkpointed = dict(unit.positions)
            for name in unit.kind.topics:
                tp = TP(self._topic(name), unit.partition)
                self._check_retention(unit, name, tp, beginnings[tp])
                positions[tp] = unit.positions[name]
        if not current():
            return None
        self.generation += 1
        self.units = {(unit.kind.name, unit.partition): unit for unit in units}
        self._durable = {tp: offset for unit in units for tp, offset in self._by_tp(unit, unit.checkpointed).items()}
        self.restored_seconds = time.monotonic() - began
        self._progress_at = time.monotonic()
        self.ready = True
        if self._traces is not None:
            self._traces.restore(len(units), began_at, time.time())
        log.info("restored %d units in %.2f s", len(units), self.restored_seconds)
        return positions

    def _check_retention(self, unit: Unit, name: str, tp: TP, beginning: int) -> None:
        """Records that Kafka deleted before we read them are lost; say so and go on with what there is."""
        position = unit.positions.setdefault(name, beginning)
        if position < beginning:
            self.lost[tp] = self.lost.get(tp, 0) + beginning - position
            log.error("%s/%d: records %d to %d were deleted unread", tp.topic, tp.partition, position, beginning - 1)
            unit.positions[name] = beginning

    async def leave(self) -> None:
        """Make everything durable, tell the group, and let go of all units."""
        units = list(self.units.values())
        for unit in units:
            await self.checkpoint(unit)
        if self._durable:
            await self._commit(dict(self._durable))
        self.units = {}
        self.ready = False
        self._progress_at = time.monotonic()

    # -- heartbeats and watchdog -------------------------------------------------------------------------------------

    async def run_heartbeats(self) -> None:
        """Put a heartbeat into every partition we hold, without end: time goes through the log like everything."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            places = [(unit, name) for unit in self.units.values() for name in unit.kind.topics]
            beats = [self._beat(name, unit.partition) for unit, name in places]
            for (unit, name), result in zip(places, await asyncio.gather(*beats, return_exceptions=True), strict=True):
                if isinstance(result, BaseException):
                    log.warning("a heartbeat could not be written: %s", result)
                else:
                    unit.first_beats.setdefault(name, result)

    async def run_watchdog(self, waiting: Callable[[], int]) -> None:
        """End the process when it gets nowhere: without an assignment, or with records `waiting` and none taken in."""
        while True:
            await asyncio.sleep(self._stall_seconds / 10)
            stalled = time.monotonic() - self._progress_at
            if stalled <= self._stall_seconds:
                continue
            if not self.ready:
                self.fail(RuntimeError(f"the group gave no assignment for {stalled:.0f} s"))
            if self.units and waiting() > 0:
                self.fail(RuntimeError(f"{waiting()} records wait and none was taken in for {stalled:.0f} s"))

    def fail(self, error: BaseException) -> None:
        """Stop at once, before another record is applied. Does not return."""
        fail_stop(error)


def fail_stop(error: BaseException) -> None:
    """Say why and end the process without running anything else."""
    sys.stderr.write("".join(traceback.format_exception(error)))
    sys.stderr.write(f"qethics worker stopped itself: {type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(EXIT_FAIL_STOP)
