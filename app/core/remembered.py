"""Answers that are remembered: a bounded memory of a function."""

from collections.abc import Callable
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Remembered(dict[_K, _V]):
    """What a function of one value says, asked once for each: `remembered[key]`.

    Bounded: when it is full it begins anew, which costs time and changes nothing.

    Parameters
    ----------
    say
        A function of the key alone.
    most
        Answers that are kept, > 0.
    """

    def __init__(self, say: Callable[[_K], _V], most: int) -> None:
        super().__init__()
        self._say = say
        self._most = most

    def __missing__(self, key: _K) -> _V:
        value = self._say(key)
        if len(self) >= self._most:
            self.clear()
        self[key] = value
        return value
