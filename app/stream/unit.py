"""One stage of one partition number, and where it stands in the logs that it reads."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from app.stream import suspects
from app.stream.logs import Mark
from app.stream.protocol import Batch, Kind, Notes, SetAside, Stage, Suspect, offset_of


class Unit:
    """One stage of one partition number, with the position of every topic it reads."""

    def __init__(self, kind: Kind, partition: int) -> None:
        self.kind = kind
        self.partition = partition
        self.stage: Stage = kind.build(partition)
        self.positions: dict[str, int] = {}
        #: When it last took anything in.
        self.applied_at = time.time()
        #: Topic -> the offset of the first heartbeat that was written for it since it was made.
        self.first_beats: dict[str, int] = {}
        self._caught_up = False
        self.writing: asyncio.Future[None] | None = None
        self.checkpointed: dict[str, int] = {}
        self.checkpointed_at = time.time()
        self.next_checkpoint = 0.0
        #: Seconds of this process that the last checkpoint took.
        self.cost = 0.0
        self.lock = asyncio.Lock()
        #: Topic -> the record that was taken in last, and one before it that its log is known again by.
        self.last: dict[str, Any] = {}
        self.marks: dict[str, Mark] = {}
        self.suspects: tuple[Suspect, ...] = ()
        #: The stage ended in the middle of a batch: what it holds is no state.
        self.void = False

    @property
    def has_caught_up(self) -> bool:
        """Whether all that was in the logs when it was made has been taken in: a heartbeat from then on came through.

        By places in the log and not by clocks: one that is set back would hide a partition for as long.
        """
        if not self._caught_up:
            beats, reached = self.first_beats, {name: offset_of(at) for name, at in self.positions.items()}
            self._caught_up = all(name in beats and reached.get(name, 0) > beats[name] for name in self.kind.topics)
        return self._caught_up

    def take(self, batch: Batch, aside: SetAside | None) -> Any:
        """Have the stage take in a batch, or set it aside, and stand after it; returns outcomes."""
        outcomes = self.stage.apply(batch) if aside is None else self.stage.set_aside(batch, aside.reason, aside.detail)
        self.positions[batch.topic] = batch.next
        self.last[batch.topic] = batch.records[-1]
        self.applied_at = time.time()
        return outcomes

    def notes(self, positions: Mapping[str, int]) -> Notes:
        """What is to be known beside the state at some positions."""
        for topic in self.last.keys() - self.marks.keys():  # no look has been taken yet
            self.marks[topic] = Mark.of(self.last[topic], offset_of(self.last[topic].offset))
        return Notes(dict(self.marks), suspects.still_ahead(self.suspects, positions))

    def notes_after(self, topic: str, batch: Batch, error: Exception) -> Notes:
        """What is to be known of a batch that ends the process."""
        ahead = suspects.still_ahead(self.suspects, self.checkpointed)
        return Notes(dict(self.marks), suspects.blamed(ahead, topic, batch, error))
