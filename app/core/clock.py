"""Time as it comes in a log: heartbeat records, and nothing else, move it.

A heartbeat carries the clock of whoever wrote it, and that clock may be wrong for a while, or the record forged. So no
single stamp moves the time: of the last stamps the median offset from the time watched is believed. A stamp that is
far off changes nothing; a clock that stays where it is, because nobody was there for hours or because it was set, is
believed after half a window.
"""

from typing import Final

from msgspec import Struct, field

#: The most that one heartbeat moves the time watched. What is beyond it is the processor's own absence, and no run is
#: closed and no number declared lost for time that nobody watched.
MAX_STEP_SECONDS: Final = 1.5
#: Heartbeats whose stamps are held against one another; more than half of them have to agree.
WINDOW: Final = 15
#: A clock that is found to be this far ahead goes back; less is waited out, so that time does not go back and forth.
_MAX_BACK_SECONDS: Final = 300.0
_EQUAL_SECONDS: Final = 0.001


class Clock(Struct, array_like=True):
    """The clock of one log.

    `at` is the time that its heartbeats agree on, in seconds since the epoch; `stamp` that of the last one alone;
    `watched` the seconds that passed while somebody was there to see them.
    """

    at: float = 0.0
    watched: float = 0.0
    stamp: float = 0.0
    #: Stamp less time watched of the last heartbeats, the oldest first.
    offsets: list[float] = field(default_factory=list)

    def advance(self, stamp: float) -> bool:
        """Take in a heartbeat dated `stamp` (seconds since the epoch); returns whether time has passed."""
        step = min(max(stamp - self.stamp, 0.0), MAX_STEP_SECONDS) if self.offsets else MAX_STEP_SECONDS
        self.stamp = stamp
        self.watched += step
        self.offsets = [*self.offsets, stamp - self.watched][-WINDOW:]
        at = self.watched + sorted(self.offsets)[(len(self.offsets) - 1) // 2]
        if abs(at - stamp) < _EQUAL_SECONDS:
            at = stamp  # what is in agreement is exact, so that what ends at an instant ends there
        if at > self.at or at <= self.at - _MAX_BACK_SECONDS:
            self.at = at
        return step > 0
