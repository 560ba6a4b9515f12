"""`qethics baselines`: what a circuit's signals should look like on a device, by the simulators."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.fidelity import Ideal
from app.errors import SettingError
from detectors.beta_binomial import LEAST_VARIATION
from simulators.calibrations import load
from simulators.physics import CIRCUITS, NoiseGrid, ideal

#: A device is never the same from job to job: how much its gate errors vary, as a share of them.
VARIATION: Final = 0.15


def synthetic(
    workload: str, circuit: str, backend: str, *, shots: int, jobs: int, seed: int, variation: float = VARIATION
) -> Iterator[dict[str, Any]]:
    """Baselines of a workload's fidelity and error rate, as entries of `policies/detectors.yaml`.

    Parameters
    ----------
    workload, circuit, backend
        The stream; the circuit is one that the simulators know, the backend one whose calibration they have.
    shots
        Shots of a job, >= 1.
    jobs
        Jobs that are simulated, >= 100.
    seed
        Of the simulation.
    variation
        Coefficient of variation of the gate errors between jobs, >= 0.

    Raises
    ------
    SettingError
        If the circuit or the backend is not known, or a number is out of range.
    """
    devices = load()
    if circuit not in CIRCUITS:
        raise SettingError(f"there is no circuit {circuit!r}", f"choose one of {', '.join(CIRCUITS)}")
    if backend not in devices:
        raise SettingError(f"there is no calibration of {backend!r}", f"choose one of {', '.join(sorted(devices))}")
    if shots < 1 or jobs < 100 or variation < 0:
        raise SettingError("shots >= 1, jobs >= 100 and variation >= 0 are taken", "give other numbers")
    calibration = devices[backend]
    rng = np.random.default_rng(seed)
    grid, perfect = NoiseGrid(circuit, calibration), Ideal(ideal(circuit))
    names = [format(index, f"0{grid.qubits}b") for index in range(1 << grid.qubits)]
    possible = [int(outcome, 2) for outcome, _ in perfect.terms]
    fidelities, rates = np.empty(jobs), np.empty(jobs)
    for job in range(jobs):
        scale = float(rng.lognormal(-0.5 * np.log1p(variation**2), np.sqrt(np.log1p(variation**2))))
        shares = grid.at(scale)
        drawn = rng.multinomial(shots, shares).tolist()
        found = perfect.fidelity({name: n for name, n in zip(names, drawn, strict=True) if n}, shots)
        # A rate's variation between jobs is that of the device; what counting adds is the model's to know.
        fidelities[job], rates[job] = found.value, 1 - float(shares[possible].sum())
    source = f"{jobs} simulated jobs of {shots} shots, calibration {calibration.id}, {variation:.0%} between jobs"
    common = {"workload": workload, "backend": backend, "kind": "synthetic", "source": source}
    yield {**common, "signal": "fidelity", "detector": "beta", **_moments(fidelities)}
    if len(perfect.terms) < perfect.outcomes:
        rate = _moments(rates)
        rate["spread"] = max(rate["spread"] / rate["location"], LEAST_VARIATION)
        yield {**common, "signal": "error_rate", "detector": "beta_binomial", **rate}


def _moments(values: NDArray[np.float64]) -> dict[str, float]:
    return {"location": float(values.mean()), "spread": float(values.std(ddof=1))}
