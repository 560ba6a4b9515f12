"""What is wrong with bytes from outside that do not decode, for whoever decodes them."""

from typing import Final

import msgspec

#: All that decoding bytes from outside raises, whatever the bytes: no such decoding is guarded by less.
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
#: Characters of what an error says that are told on: it may quote the bytes that it is about, however many they are.
_MOST_SAID: Final = 300


def said_of(error: Exception) -> str:
    """Return what an error says of bytes from outside, short enough to go into a record or a line."""
    return str(error)[:_MOST_SAID]
