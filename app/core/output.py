"""What a stage puts down while it takes in a batch: totals, outcomes, packs for the streams."""

from typing import Final

from app.core.decode import Reason
from app.core.identity import bucket
from app.core.outcomes import DeadLetter, Observation, Outcomes, Pack
from app.core.records import Batch, Record
from app.core.remembered import Remembered
from app.core.sli import Counters

_REMEMBERED: Final = 65_536
#: Characters of why a record was refused: what it says may be quoted in it.
_MOST_DETAIL: Final = 500


class Output:
    """The output of one stage.

    Parameters
    ----------
    partitions
        How many partitions `samples` has.
    """

    def __init__(self, partitions: int) -> None:
        self.counters = Counters()
        self.outcomes = Outcomes()
        self.batch = Batch("", 0, 0, 0, ())
        self._targets: Remembered[str, int] = Remembered(lambda key: bucket(key, partitions), _REMEMBERED)
        self._observations: dict[str, list[Observation]] = {}

    def begin(self, batch: Batch) -> None:
        """From here on, everything follows from `batch`."""
        self.batch, self.outcomes, self._observations = batch, Outcomes(), {}

    def reject(self, record: Record, reason: Reason, detail: str) -> None:
        """A record that is not taken in."""
        self.counters["rejected", reason.value] += 1
        batch = self.batch
        shown = detail if len(detail) <= _MOST_DETAIL else f"{detail[:_MOST_DETAIL]} ..."
        self.outcomes.dead_letters.append(DeadLetter(record, batch.topic, batch.partition, reason, shown))

    def set_aside(self, batch: Batch, reason: str, detail: str) -> Outcomes:
        """Reject records that are not to be looked into at all."""
        self.begin(batch)
        for record in batch.records:
            self.reject(record, Reason(reason), detail)
        return self.outcomes

    def observe(self, key: str, observation: Observation) -> None:
        """Hand an observation on to its stream."""
        found = self._observations.get(key)
        if found is None:
            found = self._observations[key] = self.pack(key).observations[key] = []
        found.append(observation)

    def pack(self, key: str) -> Pack:
        """The pack of this batch for the partition that a key of the streams lives in."""
        target = self._targets[key]
        pack = self.outcomes.packs.get(target)
        if pack is None:
            batch = self.batch
            pack = self.outcomes.packs[target] = Pack(batch.topic, batch.partition, batch.first, batch.next)
        return pack
