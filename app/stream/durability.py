"""When and under which name units are checkpointed, and up to where everything is durable."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from faust.types import TP

from app.stream.checkpoint import CheckpointError
from app.stream.protocol import Notes, Store, Traces, offset_of
from app.stream.unit import Unit

#: Checkpoints may take this share of a worker's time; the larger the state, the rarer they are.
_SHARE: Final = 0.05
#: Writing a state down costs about as much as putting it together: its digest, its way through the producer.
_WRITING: Final = 2.0


class Checkpoints:
    """The checkpoints of one worker.

    Parameters
    ----------
    deployment
        Whose they are; two groups on one set of topics do not get in each other's way.
    store
        Where they are kept.
    topic
        Short name -> full name of a topic.
    seconds
        The least time between two of one unit.
    traces
        Is told how long they took.
    """

    def __init__(
        self, deployment: str, store: Store, topic: Callable[[str], str], seconds: float, traces: Traces | None
    ) -> None:
        #: The offset up to which everything that follows from a partition is durable.
        self.offsets: dict[TP, int] = {}
        self._deployment = deployment
        self._store = store
        self._topic = topic
        self._seconds = seconds
        self._traces = traces

    async def write(self, unit: Unit, held: Iterable[Unit]) -> None:
        """Write a checkpoint of one unit, of all that are held, and return when it is durable."""
        async with unit.lock:
            if unit.void or unit.positions == unit.checkpointed:
                return
            began, began_at = time.monotonic(), time.time()
            # No await between the two: state and positions belong together.
            state, positions = unit.stage.snapshot(), dict(unit.positions)
            notes = unit.notes(positions)
            unit.cost = _WRITING * (time.monotonic() - began)
            if unit.writing is not None:
                await asyncio.shield(unit.writing)
            if unit.void:
                return  # it would overwrite the note of why
            await self._store.write(self._name(unit), unit.partition, positions, state, notes)
            unit.suspects = notes.suspects
            unit.checkpointed, unit.checkpointed_at = positions, time.time()
            if self._traces is not None:
                self._traces.checkpoint(unit.kind.name, unit.partition, len(state), began_at, unit.checkpointed_at)
            share = sum(each.cost for each in held) / _SHARE
            unit.next_checkpoint = time.monotonic() + max(self._seconds, share)
            self.offsets.update(self._of(unit))

    async def note(self, unit: Unit, notes: Notes) -> None:
        """Write notes that hold until the next checkpoint of a unit, and return when they are durable."""
        await self._store.note(self._name(unit), unit.partition, notes)

    async def read(self, unit: Unit) -> None:
        """Have a unit continue from its last checkpoint, if there is one."""
        found = await self._store.read(self._name(unit), unit.partition)
        if found is not None:
            positions, state, notes = found
            # A log that this stage does not read is none to be sought in, whatever a damaged record names.
            unit.positions = {name: at for name, at in positions.items() if name in unit.kind.topics}
            if state:
                try:
                    unit.stage.restore(state)
                except ValueError as error:
                    raise CheckpointError(self._store.unusable(self._name(unit), unit.partition, error)) from error
            unit.marks, unit.suspects = dict(notes.marks), notes.suspects
            unit.checkpointed = dict(unit.positions)

    def hold(self, units: Sequence[Unit]) -> None:
        """From here on, what is durable is that of these units."""
        self.offsets = {tp: offset for unit in units for tp, offset in self._of(unit).items()}

    def _name(self, unit: Unit) -> str:
        return f"{self._deployment}/{unit.kind.name}"

    def _of(self, unit: Unit) -> dict[TP, int]:
        return {TP(self._topic(name), unit.partition): offset_of(at) for name, at in unit.checkpointed.items()}
