"""A circuit breaker: a record that ended the process twice does not get to end it a third time.

What an exception while a batch is taken in was about is not known: any of its records may be at fault, and the state of
the stage is void. So the process ends, and before it does it notes the positions of the batch beside the checkpoint.
Whoever continues from there takes those in one by one; if the process ends again, one record is known to be at fault,
and the next to continue sets it aside. As the notes are in Kafka, it is set aside by whoever has the partition.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.stream.protocol import Batch, SetAside, Suspect

#: So often a record may end the process.
_MOST: Final = 2
POISON: Final = "poison"
#: Of what an error says, so much is kept: it goes into every checkpoint until it is passed.
_MOST_CHARACTERS: Final = 1_000


def blamed(suspects: Sequence[Suspect], topic: str, batch: Batch, error: BaseException) -> tuple[Suspect, ...]:
    """The suspects after a batch of a topic ended the process."""
    first, after = batch.records[0].offset, batch.records[-1].offset + 1
    met = [one for one in suspects if one.topic == topic and one.first < after and first < one.next]
    times = 1 + max((one.times for one in met), default=0)
    text = f"{type(error).__name__}: {error}"[:_MOST_CHARACTERS]
    return (*(one for one in suspects if one not in met), Suspect(topic, first, after, times, text))


def still_ahead(suspects: Sequence[Suspect], positions: Mapping[str, int]) -> tuple[Suspect, ...]:
    """The suspects that were not passed yet."""
    return tuple(one for one in suspects if one.next > positions.get(one.topic, 0))


def parts(suspects: Sequence[Suspect], topic: str, batch: Batch) -> list[tuple[Batch, SetAside | None]]:
    """A batch of a topic in the parts that it is to be taken in by; and what is to be set aside of it, with why."""
    near = [one for one in suspects if one.topic == topic and one.first < batch.next and batch.first < one.next]
    if not near or batch.unreadable is not None:
        return [(batch, batch.unreadable)]
    runs: list[tuple[list[Any], Suspect | None]] = []
    for record in batch.records:
        suspect = next((one for one in near if one.first <= record.offset < one.next), None)
        if suspect is None and runs and runs[-1][1] is None:
            runs[-1][0].append(record)
        else:
            runs.append(([record], suspect))
    ends = [*(records[0].offset for records, _ in runs[1:]), batch.next]
    begins = [batch.first, *ends]
    return [
        (batch._replace(first=begin, next=end, records=records), _verdict(suspect) if suspect is not None else None)
        for begin, end, (records, suspect) in zip(begins, ends, runs, strict=False)
    ]


def _verdict(suspect: Suspect) -> SetAside | None:
    if suspect.times < _MOST or suspect.next - suspect.first > 1:
        return None
    return SetAside(POISON, f"it ended the process {suspect.times} times: {suspect.error}")
