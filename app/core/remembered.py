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
    keep
        Whether an answer may be kept; all of them without.
    """

    def __init__(self, say: Callable[[_K], _V], most: int, keep: Callable[[_K, _V], bool] | None = None) -> None:
        super().__init__()
        self._say = say
        self._most = most
        self._keep = keep

    def __missing__(self, key: _K) -> _V:
        value = self._say(key)
        if self._keep is not None and not self._keep(key, value):
            return value
        if len(self) >= self._most:
            self.clear()
        self[key] = value
        return value
