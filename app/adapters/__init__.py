"""Native results of quantum SDKs to results of the contract. One provider a file; to add one: its file, its line here.

An adapter maps every field the provider gives and names, with the reason, what it does not give. It guesses nothing.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from app.adapters import braket, qiskit
from app.adapters.native import AdapterError, Native
from app.conventions import RESULTS
from app.errors import SettingError
from app.unreadable import UNREADABLE
from simulators.traffic import Message

ADAPTERS: Final[dict[str, Callable[[Native], list[dict[str, Any]]]]] = {
    "qiskit-aer": qiskit.adapt,
    "amazon-braket": braket.adapt,
}


def read(path: Path) -> Iterator[Message]:
    """The results of a file of native results (JSON lines, gzip or plain), as records to publish.

    Every line is {"sdk", "device", "circuit", "result"}, the result as the SDK itself serialises it. Each device is a
    producer of its own, and its results are numbered in the order of the file.

    Raises
    ------
    SettingError
        If the file cannot be read or a line is no native result of a known SDK; it names the line.
    """
    numbers: dict[str, int] = {}
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    native, results = _adapt(path, number, line)
                    producer = f"publish-{native.sdk}-{native.device}"
                    for result in results:
                        numbers[producer] = seq = numbers.get(producer, -1) + 1
                        value = msgspec.json.encode({**result, "producer": producer, "seq": seq})
                        yield Message(0.0, RESULTS, result["run_id"].encode(), value)
    except (OSError, EOFError, zlib.error) as error:
        raise SettingError(f"{path}: {error}", "name a readable file of native results (JSON lines)") from error


def _adapt(path: Path, number: int, line: bytes) -> tuple[Native, list[dict[str, Any]]]:
    try:
        native = msgspec.json.decode(line, type=Native)
        adapt = ADAPTERS.get(native.sdk)
        if adapt is None:
            raise AdapterError(f"there is no adapter for {native.sdk!r}")
        return native, adapt(native)
    except (KeyError, IndexError, TypeError, AttributeError, *UNREADABLE) as error:
        remedy = f"a line is {{sdk, device, circuit, result}}; known SDKs are {', '.join(ADAPTERS)}"
        raise SettingError(f"{path}:{number}: {type(error).__name__}: {error}", remedy) from error
