"""The shell: delivers batches to stages, outcomes to sinks, and makes both durable in the right order.

The way of a batch, in `process`: the stage of its partition applies it -> outcomes go to the sinks -> later, a
checkpoint (state and positions together) is written once the outcomes it contains are durable -> only then are the
positions committed. Anything that goes wrong on this way ends the process at once: whoever supervises restarts it, and
it continues from the last checkpoint.

Two things do not end the process: what was read and cannot be (a batch that does not parse, a record that ended the
process twice) is set aside, as a dead letter; and a log that is not the one that was read any more is read from where
it begins, with the state that there is (`app.stream.logs`).
"""

import asyncio
import logging
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from faust.types import TP

from app.conventions import EXIT_FAIL_STOP
from app.stream import suspects
from app.stream.ages import Ages
from app.stream.durability import Checkpoints
from app.stream.logs import Mark
from app.stream.losses import Losses
from app.stream.places import Places
from app.stream.protocol import Batch, Kind, SetAside, Sinks, Store, Traces
from app.stream.unit import Unit

log = logging.getLogger("qethics.shell")

#: What a process that is to end may still take to say why.
_LAST_WORD_SECONDS: Final = 10.0
#: When outcomes cannot be written, these are no fault of the records; the others, and outcomes too large to write, are.
_NOT_OF_RECORDS: Final = (KafkaError, OSError, TimeoutError)
_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)


class Shell:
    """Everything between Kafka and the stages.

    Parameters
    ----------
    partitions
        How many of each topic are served.
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
    replaced
        Which logs are not those any more that records, as marked, were read from; and how that shows.
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
        partitions: int,
        deployment: str,
        kinds: Sequence[Kind],
        sinks: Sinks,
        store: Store,
        commit: Callable[[dict[TP, int]], Awaitable[Any]],
        beginnings: Callable[[Iterable[TP]], Awaitable[dict[TP, int]]],
        replaced: Callable[[Mapping[TP, Mark]], Awaitable[dict[TP, str]]],
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
        self.partitions = partitions
        self.client_options = client_options
        self.consumer_options = consumer_options
        self.units: dict[tuple[str, int], Unit] = {}
        self.ages = Ages()
        self.losses = Losses()
        #: A log was seen to be another; whoever delivers is to begin again, from `restore`.
        self.doubtful = False
        self.restored_seconds = 0.0
        self.ready = False
        self._kinds = {topic(name): (kind, name) for kind in kinds for name in kind.topics}
        self._topic = topic
        self._sinks = sinks
        self._checkpoints = Checkpoints(deployment, store, topic, checkpoint_seconds, traces)
        self._commit = commit
        self._beginnings = beginnings
        self._places = Places(topic, replaced, self.losses)
        self._beat = beat
        self._checkpoint_seconds = checkpoint_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._stall_seconds = stall_seconds
        self._traces = traces
        self._progress_at = time.monotonic()

    @property
    def topics(self) -> list[str]:
        """Full names of the topics to subscribe to."""
        return list(self._kinds)

    @property
    def names(self) -> dict[str, str]:
        """Full name -> short name of each topic."""
        return {topic: name for topic, (_, name) in self._kinds.items()}

    # -- the way of a batch ------------------------------------------------------------------------------------------

    async def process(self, batch: Batch) -> None:
        """Apply a batch and send its outcomes on their way."""
        kind, name = self._kinds[batch.topic]
        unit = self.units.get((kind.name, batch.partition))
        if unit is None:
            return  # revoked while it was waiting; the next owner continues from the checkpoint
        parts = suspects.parts(unit.suspects, name, batch) if unit.suspects else [(batch, batch.unreadable)]
        for part, aside in parts:
            if kind.prepare is not None and aside is None:
                try:
                    await kind.prepare(part._replace(topic=name))
                except Exception as error:
                    await self._blame(unit, name, part, error)
            await self._take(unit, name, part, aside)

    async def _take(self, unit: Unit, name: str, batch: Batch, aside: SetAside | None) -> None:
        while unit.writing is not None and not unit.writing.done():
            # One write of a partition at a time, so that what is derived from it arrives in order.
            await asyncio.shield(unit.writing)
        if not self._held(unit) or batch.generation != self.generation:
            return  # it waited through a rebalance; what it holds is fetched again from the restored position
        if batch.first != unit.positions[name]:
            raise RuntimeError(f"{batch.topic}/{batch.partition}: {batch.first} does not join {unit.positions[name]}")
        taken_at = time.time()
        try:
            outcomes = unit.take(batch._replace(topic=name), aside)
        except Exception as error:
            await self._blame(unit, name, batch, error)
        applied_at = unit.applied_at
        unit.writing = asyncio.ensure_future(self._write(unit, name, batch, outcomes, taken_at))
        unit.writing.add_done_callback(self._written)
        self._progress_at = time.monotonic()
        if aside is None:
            self.losses.skipped += batch.next - batch.first - len(batch.records)
            self.ages.add(batch.records, applied_at)
        else:
            self.losses.were_set_aside(batch, aside)

    async def _write(self, unit: Unit, name: str, batch: Batch, outcomes: Any, taken_at: float) -> None:
        applied_at = unit.applied_at
        try:
            await self._sinks.write(batch.partition, outcomes)
        except Exception as error:
            if isinstance(error, _NOT_OF_RECORDS) and not isinstance(error, _TOO_LARGE):
                raise
            await self._blame(unit, name, batch, error)
        if self._traces is not None:
            self._traces.batch(batch, outcomes, taken_at, applied_at, time.time())

    async def _blame(self, unit: Unit, name: str, batch: Batch, error: Exception) -> NoReturn:
        """Note that a batch ends the process, for whoever continues from the checkpoint, and end it."""
        self.units.pop((unit.kind.name, unit.partition), None)
        unit.void = True
        notes = unit.notes_after(name, batch, error)
        try:
            await asyncio.wait_for(self._checkpoints.note(unit, notes), _LAST_WORD_SECONDS)
        except Exception as unsaid:
            error.add_note(f"what was being taken in could not be noted: {unsaid}")
        last = batch.records[-1].offset
        error.add_note(f"{batch.topic}/{batch.partition}: while {batch.records[0].offset} to {last} were taken in")
        self.fail(error)

    def _written(self, future: "asyncio.Future[None]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self.fail(error)

    # -- durability --------------------------------------------------------------------------------------------------

    def durable(self, tp: TP) -> int | None:
        """The offset up to which everything that follows from a partition is durable; None before the first."""
        return self._checkpoints.offsets.get(tp)

    async def run_checkpoints(self) -> None:
        """Checkpoint every unit now and then, without end."""
        while True:
            await asyncio.sleep(self._checkpoint_seconds / 8)
            for unit in list(self.units.values()):
                if time.monotonic() >= unit.next_checkpoint and self._held(unit):
                    await self._checkpoints.write(unit, self.units.values())

    def _held(self, unit: Unit) -> bool:
        return self.units.get((unit.kind.name, unit.partition)) is unit

    # -- coming and going --------------------------------------------------------------------------------------------

    async def restore(self, assigned: set[TP], current: Callable[[], bool]) -> dict[TP, int] | None:
        """Make the units of what is assigned, from their checkpoints; says at which positions to continue.

        None, and nothing is changed, if `current` says at the end that the assignment is no longer the one in force.
        """
        began, began_at = time.monotonic(), time.time()
        wanted = {(self._kinds[tp.topic][0].name, tp.partition): tp for tp in assigned if tp.topic in self._kinds}
        units = [Unit(self._kinds[tp.topic][0], tp.partition) for tp in wanted.values()]
        beginnings = await self._beginnings(assigned)
        for unit in units:
            await self._checkpoints.read(unit)
        await self._places.locate(units, beginnings)
        positions = {TP(self._topic(name), unit.partition): at for unit in units for name, at in unit.positions.items()}
        if not current():
            return None
        self.generation += 1
        self.units = {(unit.kind.name, unit.partition): unit for unit in units}
        self._checkpoints.hold(units)
        self.restored_seconds = time.monotonic() - began
        self._progress_at = time.monotonic()
        self.ready = True
        if self._traces is not None:
            self._traces.restore(len(units), began_at, time.time())
        log.info("restored %d units in %.2f s", len(units), self.restored_seconds)
        return positions

    async def again(self) -> None:
        """Make everything durable and let go of all units: where we stood is not to be gone on from."""
        self.generation += 1  # what waits is of no use any more
        await self._let_go()

    async def leave(self) -> None:
        """Make everything durable, tell the group, and let go of all units."""
        await self._let_go(tell=self._commit)

    async def _let_go(self, tell: Callable[[dict[TP, int]], Awaitable[Any]] | None = None) -> None:
        for unit in list(self.units.values()):
            await self._checkpoints.write(unit, self.units.values())
        if self._checkpoints.offsets and tell is not None:
            await tell(dict(self._checkpoints.offsets))
        self.units = {}
        self.ready = self.doubtful = False
        self._progress_at = time.monotonic()

    async def run_looks(self) -> None:
        """Look whether the logs are still those that were read, without end; `doubtful` says if one is not."""
        await self._places.watch(lambda: list(self.units.values()), self._doubt)

    def _doubt(self, looked_at: list[Unit]) -> None:
        self.doubtful = all(map(self._held, looked_at))  # else they were let go of meanwhile

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

    def fail(self, error: BaseException) -> NoReturn:
        """Stop at once, before another record is applied. Does not return."""
        fail_stop(error)


def fail_stop(error: BaseException) -> NoReturn:
    """Say why and end the process without running anything else."""
    sys.stderr.write("".join(traceback.format_exception(error)))
    sys.stderr.write(f"qethics worker stopped itself: {type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(EXIT_FAIL_STOP)
