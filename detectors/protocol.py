"""What a detector is: a float and its own past."""

from importlib import import_module
from math import isfinite
from typing import Any, Protocol, runtime_checkable

import msgspec


class NonFiniteError(ValueError):
    """NaN or infinity was offered to a detector; one of them would make it deaf without a sign."""


@runtime_checkable
class Detector(Protocol):
    """An online change detector, in River's own words."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last update signalled a change. The detector starts anew with the next one."""

    def update(self, x: float) -> None:
        """Take in one value.

        Raises
        ------
        NonFiniteError
            If `x` is NaN or infinite; the state is unchanged.
        """

    def snapshot(self) -> bytes:
        """The whole state: msgpack, no code."""

    def restore(self, snapshot: bytes) -> None:
        """Continue exactly where `snapshot` was taken.

        Raises
        ------
        ValueError
            If it was taken from another detector or with other parameters.
        """


def river_drift() -> Any:
    """Return River's drift detectors, loaded when the first one is made.

    They load the whole of `scipy.stats`: a second of the start of every process that may never make one.
    """
    return import_module("river.drift")


class RiverBacked:
    """What the detectors that River implements have in common: its object, fed with finite values only."""

    _inner: Any

    @property
    def drift_detected(self) -> bool:
        """Whether the last update signalled a change."""
        return bool(self._inner.drift_detected)

    def update(self, x: float) -> None:
        """Take in one finite value."""
        self._inner.update(finite(x))


def finite(x: float) -> float:
    """`x`, if it is finite.

    Raises
    ------
    NonFiniteError
        Otherwise.
    """
    if not isfinite(x):
        raise NonFiniteError(f"a detector takes finite values, not {x}")
    return x


def written(name: str, parameters: tuple[float | str, ...], state: object) -> bytes:
    """A snapshot: who wrote it, with what parameters, and the state."""
    return msgspec.msgpack.encode((name, parameters, state))


def read(snapshot: bytes, name: str, parameters: tuple[float | str, ...]) -> list[object]:
    """The state inside a snapshot.

    Raises
    ------
    ValueError
        If it is of another detector, of other parameters, or damaged.
    """
    try:
        found, given, state = msgspec.msgpack.decode(snapshot, type=tuple[str, list[float | str], list[object]])
    except msgspec.MsgspecError as error:
        raise ValueError(f"the snapshot is damaged: {error}") from error
    if found != name or tuple(given) != parameters:
        raise ValueError(f"the snapshot is of {found}{tuple(given)}, this is {name}{parameters}")
    return state
