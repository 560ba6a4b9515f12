"""Where each log is gone on with, and whether it is still the one that was read."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from aiokafka.errors import KafkaError
from faust.types import TP

from app.stream.logs import Mark
from app.stream.losses import Losses
from app.stream.protocol import LOG, offset_of
from app.stream.unit import Unit

log = logging.getLogger("qethics.shell")

#: Time between two looks at whether the logs are still those that were read.
_LOOK_SECONDS: Final = 5.0


class Places:
    """The places of units in their logs.

    Parameters
    ----------
    topic
        Short name -> full name of a topic.
    replaced
        Which logs are not those any more that records, as marked, were read from; and how that shows.
    losses
        Is told what was not read.
    """

    def __init__(
        self,
        topic: Callable[[str], str],
        replaced: Callable[[Mapping[TP, Mark]], Awaitable[dict[TP, str]]],
        losses: Losses,
    ) -> None:
        self._topic = topic
        self._replaced = replaced
        self._losses = losses

    async def locate(self, units: Iterable[Unit], beginnings: Mapping[TP, int]) -> None:
        """Set where each log is gone on with: where it was left, unless that is not there any more."""
        places = [(unit, name, TP(self._topic(name), unit.partition)) for unit in units for name in unit.kind.topics]
        replaced = await self._replaced(
            {
                # Before a unit has a mark of its own, that a record is there at all must do.
                tp: unit.marks.get(name, Mark(offset_of(unit.positions[name]) - 1))
                for unit, name, tp in places
                if offset_of(unit.positions.get(name, 0)) > 0
            }
        )
        for unit, name, tp in places:
            beginning = beginnings[tp]
            position = unit.positions.setdefault(name, beginning)
            offset = offset_of(position)
            if tp in replaced:
                self._losses.has_begun_anew(tp, offset, beginning, replaced[tp])
                unit.positions[name] = position - offset + LOG + beginning
                unit.marks.pop(name, None)
            elif offset < beginning:
                self._losses.were_deleted(tp, offset, beginning)
                unit.positions[name] = position - offset + beginning

    async def watch(self, units: Callable[[], Iterable[Unit]], doubt: Callable[[list[Unit]], None]) -> None:
        """Look whether the logs are still those that were read, without end.

        Parameters
        ----------
        units
            Whose logs they are.
        doubt
            Is told the units that were looked at, when one of their logs is another.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            held = list(units())
            try:
                if await self.have_changed(held):
                    doubt(held)
            except (KafkaError, TimeoutError) as error:
                log.warning("whether the logs are still those that were read is not known: %r", error)

    async def have_changed(self, units: Iterable[Unit]) -> bool:
        """Whether a log of some units is not the one that was read; if none is, they are marked by what was read last.

        Raises
        ------
        aiokafka.errors.KafkaError, TimeoutError
            If the brokers do not say.
        """
        # What is found is said of the records that the marks are of; so what came after them is of the same log.
        read = [(unit, name, record) for unit in units for name, record in unit.last.items()]
        marks = {
            TP(self._topic(name), unit.partition): unit.marks[name] for unit, name, _ in read if name in unit.marks
        }
        replaced = await self._replaced(marks)
        for tp, why in replaced.items():
            log.error("%s/%d is not the log that was read: %s", tp.topic, tp.partition, why)
        if not replaced:
            for unit, name, record in read:
                unit.marks[name] = Mark.of(record, offset_of(record.offset))
        return bool(replaced)
