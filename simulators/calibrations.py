"""Noise figures of real devices: medians over the qubits and gates of published calibration snapshots."""

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from importlib.resources import files
from statistics import median
from typing import Any, Final

from msgspec import Struct

#: Where the figures come from; see `data/README.md`.
SOURCE: Final = "calibrations.json"
#: Gate names of two-qubit entangling gates in IBM calibrations.
_TWO_QUBIT: Final = frozenset({"cx", "cz", "ecr"})
_ONE_QUBIT: Final = frozenset({"sx", "x", "u2"})
#: Gate durations in microseconds, typical of the architecture (the snapshots kept here carry none).
ONE_QUBIT_US: Final = 0.035
TWO_QUBIT_US: Final = 0.3


class Calibration(Struct, frozen=True):
    """What a device's qubits and gates are like on the median.

    Times in microseconds, errors as probabilities in [0, 1].
    """

    backend: str
    updated_at: str
    t1_us: float
    t2_us: float
    p1_given_0: float
    p0_given_1: float
    one_qubit_error: float
    two_qubit_error: float

    @property
    def id(self) -> str:
        """The calibration's id: device and time."""
        return f"{self.backend}@{self.updated_at}"


def summarize(snapshot: dict[str, Any]) -> Calibration:
    """The medians of one calibration snapshot.

    Parameters
    ----------
    snapshot
        `backend`, `updated_at`, `qubits` [{t1_us, t2_us, p0_given_1, p1_given_0}] and `gates` [[name, qubits, error]].
    """

    def qubit(name: str) -> float:
        return _median(entry[name] for entry in snapshot["qubits"] if entry.get(name) is not None)

    def gate(names: frozenset[str]) -> float:
        # An error of 1 is IBM's mark of a gate that is switched off, not a measurement.
        return _median(error for name, _, error, *_ in snapshot["gates"] if name in names and error and error < 1)

    return Calibration(
        backend=snapshot["backend"],
        updated_at=snapshot["updated_at"],
        t1_us=qubit("t1_us"),
        t2_us=qubit("t2_us"),
        p1_given_0=qubit("p1_given_0"),
        p0_given_1=qubit("p0_given_1"),
        one_qubit_error=gate(_ONE_QUBIT),
        two_qubit_error=gate(_TWO_QUBIT),
    )


def parameter_dates(snapshot: dict[str, Any], qubits: Collection[int] | None = None) -> list[datetime]:
    """When each parameter of a snapshot was measured, by its own date: those a circuit rests on, or all.

    The oldest of them is what a job's `calibrated_at` should say. A snapshot's own date only says when it was put
    together: of 93 that IBM published one parameter in ten was then older than two days.

    Parameters
    ----------
    snapshot
        As for `summarize`: the qubits with `..._date`, the gates with their date at the end.
    qubits
        Those that the circuit runs on; None for all.
    """
    of_qubits = (
        entry[name]
        for number, entry in enumerate(snapshot["qubits"])
        for name in entry
        if name.endswith("_date") and (qubits is None or number in qubits)
    )
    of_gates = (date for _, on, _, date in snapshot["gates"] if qubits is None or set(on) <= set(qubits))
    return [datetime.fromisoformat(date) for date in (*of_qubits, *of_gates) if date]


def _median(values: Iterable[float]) -> float:
    return float(median(values))


def load() -> dict[str, Calibration]:
    """The calibrations that ship with the package, by backend."""
    text = files("simulators").joinpath("data", SOURCE).read_text()
    return {entry["backend"]: Calibration(**entry) for entry in json.loads(text)}
