r"""Density matrices of small circuits under noise, solved with QuTiP.

Noise of a gate, as Kraus maps on the qubits it touches, in this order:

* depolarizing with the gate's error r: :math:`\rho \to (1-p) \rho + p\, I/2^k \otimes tr_k \rho` with
  :math:`p = r\, d / (d - 1)`, :math:`d = 2^k` (average gate infidelity to depolarizing probability);
* amplitude damping over the gate's duration t: :math:`\gamma = 1 - e^{-t/T_1}`;
* phase damping: :math:`\lambda = 1 - e^{-2 t / T_\phi}` with :math:`1/T_\phi = 1/T_2 - 1/(2 T_1)`.

Readout flips each bit independently. Kraus forms: Nielsen, Chuang, Quantum Computation and Quantum Information,
section 8.3. Qubit 0 is the rightmost character of every bitstring.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from math import exp
from typing import Final

import numpy as np
import qutip
from msgspec import Struct
from numpy.typing import NDArray

from simulators.calibrations import ONE_QUBIT_US, TWO_QUBIT_US, Calibration

Matrix = NDArray[np.complex128]
Probabilities = NDArray[np.float64]


class Noise(Struct, frozen=True):
    """What a circuit suffers. Errors are probabilities in [0, 1], times in microseconds."""

    one_qubit_error: float = 0.0
    two_qubit_error: float = 0.0
    t1_us: float = float("inf")
    t2_us: float = float("inf")
    p1_given_0: float = 0.0
    p0_given_1: float = 0.0

    @classmethod
    def of(cls, calibration: Calibration, depolarizing_scale: float = 1.0) -> "Noise":
        """The noise of a calibrated device, its gate errors scaled (1 is as calibrated)."""
        return cls(
            one_qubit_error=min(0.7, calibration.one_qubit_error * depolarizing_scale),
            two_qubit_error=min(0.7, calibration.two_qubit_error * depolarizing_scale),
            t1_us=calibration.t1_us,
            t2_us=min(calibration.t2_us, 2 * calibration.t1_us),  # T2 <= 2 T1 for any qubit
            p1_given_0=calibration.p1_given_0,
            p0_given_1=calibration.p0_given_1,
        )


NOISELESS: Final = Noise()


def _matrix(operator: qutip.Qobj) -> Matrix:
    return np.asarray(operator.full(), dtype=np.complex128)


_I: Final = _matrix(qutip.qeye(2))
_X: Final = _matrix(qutip.sigmax())
_Y: Final = _matrix(qutip.sigmay())
_Z: Final = _matrix(qutip.sigmaz())
_H: Final = (_X + _Z) / np.sqrt(2)
_PAULIS: Final = (_I, _X, _Y, _Z)
_CX: Final = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=np.complex128)


def _rotation(axis: Matrix, angle: float) -> Matrix:
    return _matrix((-0.5j * angle * qutip.Qobj(axis)).expm())


class Circuit:
    """A density matrix under construction, with the noise of every gate put on it as it comes.

    Parameters
    ----------
    qubits
        Number of qubits, 1 to 10.
    noise
        What the gates and the readout suffer.
    """

    def __init__(self, qubits: int, noise: Noise) -> None:
        self._qubits = qubits
        self._noise = noise
        self._rho = _matrix(qutip.fock_dm([2] * qubits, [0] * qubits)).reshape((2,) * (2 * qubits))

    def h(self, qubit: int) -> None:
        """Hadamard."""
        self._gate(_H, (qubit,))

    def x(self, qubit: int) -> None:
        """Pauli X."""
        self._gate(_X, (qubit,))

    def rx(self, angle: float, qubit: int) -> None:
        """Rotation about X by `angle` radians."""
        self._gate(_rotation(_X, angle), (qubit,))

    def rz(self, angle: float, qubit: int) -> None:
        """Rotation about Z by `angle` radians."""
        self._gate(_rotation(_Z, angle), (qubit,))

    def cx(self, control: int, target: int) -> None:
        """Controlled X."""
        self._gate(_CX, (control, target))

    def _gate(self, unitary: Matrix, qubits: tuple[int, ...]) -> None:
        self._map([unitary], qubits)
        noise = self._noise
        error = noise.one_qubit_error if len(qubits) == 1 else noise.two_qubit_error
        if error:
            self._map(depolarizing(error, len(qubits)), qubits)
        duration = ONE_QUBIT_US if len(qubits) == 1 else TWO_QUBIT_US
        for qubit in qubits:
            self._map(relaxation(duration, noise.t1_us, noise.t2_us), (qubit,))

    def _map(self, kraus: Sequence[Matrix], qubits: tuple[int, ...]) -> None:
        """Apply a Kraus map to some qubits of the density tensor."""
        k, n = len(qubits), self._qubits
        # Qubit 0 is the least significant: the last ket axis and the last bra axis.
        kets = [n - 1 - qubit for qubit in qubits]
        bras = [axis + n for axis in kets]
        total = np.zeros_like(self._rho)
        for operator in kraus:
            tensor = operator.reshape((2,) * (2 * k))
            inner = list(range(k, 2 * k))
            step = np.moveaxis(np.tensordot(tensor, self._rho, (inner, kets)), range(k), kets)
            step = np.moveaxis(np.tensordot(tensor.conj(), step, (inner, bras)), range(k), bras)
            total += step
        self._rho = total

    def density(self) -> qutip.Qobj:
        """The density matrix before readout."""
        size = 2**self._qubits
        return qutip.Qobj(self._rho.reshape(size, size), dims=[[2] * self._qubits] * 2)

    def probabilities(self, measured: int) -> Probabilities:
        """The distribution of the first `measured` qubits after readout, by the integer of the bitstring.

        Shape (2 ** measured,).
        """
        diagonal = np.asarray(self.density().diag()).real.clip(0)
        outcome = diagonal.reshape(-1, 2**measured).sum(axis=0)
        noise = self._noise
        flip = np.array([[1 - noise.p1_given_0, noise.p0_given_1], [noise.p1_given_0, 1 - noise.p0_given_1]])
        tensor = outcome.reshape((2,) * measured)
        for axis in range(measured):
            tensor = np.moveaxis(np.tensordot(flip, tensor, (1, axis)), 0, axis)
        return np.asarray(tensor.reshape(-1) / tensor.sum(), dtype=np.float64)


def depolarizing(error: float, qubits: int) -> list[Matrix]:
    """Kraus operators of the depolarizing channel with average gate infidelity `error`, on 1 or 2 qubits."""
    d = 2**qubits
    p = min(1.0, error * d / (d - 1))
    operators: list[Matrix] = []
    for index, paulis in enumerate(product(_PAULIS, repeat=qubits)):
        operator = paulis[0]
        for pauli in paulis[1:]:
            operator = np.asarray(np.kron(operator, pauli), dtype=np.complex128)
        weight = p / d**2 if index else 1 - p * (1 - 1 / d**2)
        operators.append(np.sqrt(weight) * operator)
    return operators


def relaxation(duration_us: float, t1_us: float, t2_us: float) -> list[Matrix]:
    """Kraus operators of amplitude damping followed by pure dephasing over `duration_us`, on one qubit."""
    gamma = 1 - exp(-duration_us / t1_us)
    dephasing = max(0.0, 1 / t2_us - 0.5 / t1_us)
    lam = 1 - exp(-2 * duration_us * dephasing)
    damping = (
        np.array([[1, 0], [0, np.sqrt(1 - gamma)]], dtype=np.complex128),
        np.array([[0, np.sqrt(gamma)], [0, 0]], dtype=np.complex128),
    )
    phase = (
        np.array([[1, 0], [0, np.sqrt(1 - lam)]], dtype=np.complex128),
        np.array([[0, 0], [0, np.sqrt(lam)]], dtype=np.complex128),
    )
    return [second @ first for first in damping for second in phase]


def ghz(noise: Noise, qubits: int = 5) -> Circuit:
    """(|0...0> + |1...1>) / sqrt 2."""
    circuit = Circuit(qubits, noise)
    circuit.h(0)
    for qubit in range(1, qubits):
        circuit.cx(qubit - 1, qubit)
    return circuit


def bernstein_vazirani(noise: Noise, hidden: str = "10110") -> Circuit:
    """Reads `hidden` in one query (Bernstein, Vazirani 1997); the ancilla is the last qubit and is not measured."""
    ancilla = len(hidden)
    circuit = Circuit(ancilla + 1, noise)
    circuit.x(ancilla)
    for qubit in range(ancilla + 1):
        circuit.h(qubit)
    for qubit, bit in enumerate(reversed(hidden)):
        if bit == "1":
            circuit.cx(qubit, ancilla)
    for qubit in range(ancilla):
        circuit.h(qubit)
    return circuit


def qaoa_ring(noise: Noise, qubits: int = 4, gamma: float = 0.6, beta: float = 0.4) -> Circuit:
    """One layer of QAOA for MaxCut on a ring (Farhi, Goldstone, Gutmann 2014)."""
    circuit = Circuit(qubits, noise)
    for qubit in range(qubits):
        circuit.h(qubit)
    for qubit in range(qubits):
        neighbour = (qubit + 1) % qubits
        circuit.cx(qubit, neighbour)
        circuit.rz(2 * gamma, neighbour)
        circuit.cx(qubit, neighbour)
    for qubit in range(qubits):
        circuit.rx(2 * beta, qubit)
    return circuit


#: Circuit name -> (builder, measured qubits).
CIRCUITS: Final[dict[str, tuple[Callable[[Noise], Circuit], int]]] = {
    "ghz-5": (ghz, 5),
    "bernstein-vazirani-5": (bernstein_vazirani, 5),
    "qaoa-ring-4": (qaoa_ring, 4),
}


def ideal(name: str) -> dict[str, float]:
    """The noiseless distribution of a circuit: bitstring -> probability, of the outcomes that occur."""
    build, qubits = CIRCUITS[name]
    distribution = build(NOISELESS).probabilities(qubits)
    return {format(index, f"0{qubits}b"): float(p) for index, p in enumerate(distribution) if p > 1e-12}


@lru_cache(maxsize=256)
def _solved(name: str, calibration: Calibration, scales: tuple[float, ...]) -> Probabilities:
    """The distributions of a circuit on a device, a row for each scale; every traffic of a process shares them."""
    build, qubits = CIRCUITS[name]
    found = np.stack([build(Noise.of(calibration, scale)).probabilities(qubits) for scale in scales])
    found.flags.writeable = False
    return found


class NoiseGrid:
    """A circuit's distribution on one device over a grid of gate-error scales, solved once and sampled from.

    Parameters
    ----------
    name
        A circuit of `CIRCUITS`.
    calibration
        The device.
    scales
        Factors on the gate errors, ascending; between two of them the distribution is interpolated linearly, which
        errs by less than the shot noise of 100,000 shots on the default grid.
    """

    SCALES: Final = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)

    def __init__(self, name: str, calibration: Calibration, scales: Sequence[float] = SCALES) -> None:
        _, self.qubits = CIRCUITS[name]
        self._scales = np.array(scales)
        self._solved = _solved(name, calibration, tuple(scales))

    def at(self, scale: float) -> Probabilities:
        """The distribution at a scale within the grid's range."""
        above = int(np.searchsorted(self._scales, scale).clip(1, len(self._scales) - 1))
        low, high = self._scales[above - 1], self._scales[above]
        weight = float(np.clip((scale - low) / (high - low), 0, 1))
        return np.asarray((1 - weight) * self._solved[above - 1] + weight * self._solved[above])
