"""What all adapters share: the line they are given."""

from typing import Any

from msgspec import Struct


class AdapterError(ValueError):
    """A native result lacks what no result can do without."""


class Native(Struct, frozen=True):
    """One line of a file of native results."""

    sdk: str
    device: str
    circuit: str
    result: dict[str, Any]
    qasm3_sha256: str | None = None
