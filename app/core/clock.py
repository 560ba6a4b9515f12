"""Time as it comes in a log: heartbeat records, and nothing else, move it."""

from typing import Final

from msgspec import Struct

#: The most that one heartbeat moves the time watched. What is beyond it is the processor's own absence, and no run is
#: closed and no number declared lost for time that nobody watched.
MAX_STEP_SECONDS: Final = 1.5
#: A heartbeat this far behind the clock says that the clock was wrong: the next ones are measured from it.
_MAX_BACK_SECONDS: Final = 300.0


class Clock(Struct, array_like=True):
    """The clock of one log.

    `at` is that of its last heartbeat, in seconds since the epoch; `watched` the seconds that passed while somebody
    was there to see them.
    """

    at: float = 0.0
    watched: float = 0.0

    def advance(self, at: float) -> bool:
        """Take in a heartbeat dated `at`; says whether time has passed."""
        step = at - self.at
        if -_MAX_BACK_SECONDS < step <= 0:
            return False
        self.at = at
        self.watched += min(max(step, 0.0), MAX_STEP_SECONDS)
        return step > 0
