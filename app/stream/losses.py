"""What was not read, and what was set aside: counted by topic and partition, and said in the log."""

import logging
from collections import Counter

from faust.types import TP

from app.stream.protocol import Batch, SetAside

log = logging.getLogger("qethics.shell")


class Losses:
    """Everything that did not get to a stage, since this process began."""

    def __init__(self) -> None:
        #: Records that Kafka deleted before we read them.
        self.deleted: Counter[TP] = Counter()
        #: How often a log was another than the one that was read.
        self.began_anew: Counter[TP] = Counter()
        #: (topic, partition, reason) -> offsets that were set aside.
        self.set_aside: Counter[tuple[str, int, str]] = Counter()
        #: Offsets that hold no record: markers of transactions, and what compaction removed.
        self.skipped = 0

    def were_deleted(self, tp: TP, first: int, after: int) -> None:
        """The records of [first, after) are gone."""
        self.deleted[tp] += after - first
        log.error("%s/%d: records %d to %d were deleted unread", tp.topic, tp.partition, first, after - 1)

    def has_begun_anew(self, tp: TP, position: int, beginning: int, why: str) -> None:
        """What is in a partition now is another log than the one that was read up to `position`."""
        self.began_anew[tp] += 1
        log.error(
            "%s/%d: the log began anew: %s. What the old one held from %d on was not read and is lost; "
            "the new one is read from %d on",
            tp.topic,
            tp.partition,
            why,
            position,
            beginning,
        )

    def were_set_aside(self, batch: Batch, aside: SetAside) -> None:
        """The records of a batch go to the dead letters instead of their stage."""
        self.set_aside[batch.topic, batch.partition, aside.reason] += batch.next - batch.first
        log.error(
            "%s/%d: records %d to %d are set aside (%s): %s",
            batch.topic,
            batch.partition,
            batch.records[0].offset,
            batch.next - 1,
            aside.reason,
            aside.detail,
        )
