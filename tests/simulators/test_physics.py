"""Physics against analytic results and against real native results."""

import gzip
import json
from math import exp, sqrt
from pathlib import Path

import numpy as np
import pytest
import qutip

from simulators.calibrations import load, summarize
from simulators.physics import CIRCUITS, NOISELESS, Circuit, Noise, NoiseGrid, depolarizing, ghz, ideal, relaxation

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "ibm-calibrations.jsonl.gz"


def test_the_noiseless_circuits_give_their_ideals():
    assert ideal("ghz-5") == pytest.approx({"00000": 0.5, "11111": 0.5})
    assert ideal("bernstein-vazirani-5") == pytest.approx({"10110": 1.0})
    assert sum(ideal("qaoa-ring-4").values()) == pytest.approx(1.0)


def test_a_noiseless_ghz_state_is_the_one_qutip_knows():
    fidelity = qutip.fidelity(ghz(NOISELESS, 3).density(), qutip.ket2dm(qutip.ghz_state(3)))
    assert fidelity == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("channel", [depolarizing(0.01, 1), depolarizing(0.02, 2), relaxation(0.3, 100, 80)])
def test_kraus_operators_keep_the_trace(channel):
    total = sum(operator.conj().T @ operator for operator in channel)
    assert np.allclose(total, np.eye(len(total)), atol=1e-12)


@pytest.mark.parametrize("qubits", [1, 2])
def test_the_depolarizing_channel_has_the_stated_average_infidelity(qubits):
    # Average fidelity of a channel from its Kraus operators: (d + sum |tr K|^2) / (d^2 + d) (Nielsen 2002).
    d, error = 2**qubits, 0.013
    traces = sum(abs(np.trace(operator)) ** 2 for operator in depolarizing(error, qubits))
    assert 1 - (d + traces) / (d * d + d) == pytest.approx(error, abs=1e-12)


def test_relaxation_decays_population_and_coherence_as_t1_and_t2_say():
    t1, t2, time = 100.0, 80.0, 7.0
    plus = np.array([[0.5, 0.5], [0.5, 0.5]])
    after = sum(operator @ plus @ operator.conj().T for operator in relaxation(time, t1, t2))
    assert after[1, 1].real == pytest.approx(0.5 * exp(-time / t1))
    assert abs(after[0, 1]) == pytest.approx(0.5 * exp(-time / t2))


def test_readout_flips_a_known_share_of_zeros_and_ones():
    circuit = Circuit(2, Noise(p1_given_0=0.1, p0_given_1=0.2))
    circuit.x(0)
    # Qubit 0 is the rightmost character: |01> before readout.
    assert circuit.probabilities(2).tolist() == pytest.approx([0.9 * 0.2, 0.9 * 0.8, 0.1 * 0.2, 0.1 * 0.8])


def test_more_gate_error_is_less_fidelity_and_the_grid_interpolates():
    grid = NoiseGrid("ghz-5", load()["ibm_fez"])
    ends = np.array([0, 31])
    fidelities = [float(np.sqrt(grid.at(scale)[ends] * 0.5).sum() ** 2) for scale in (0.5, 1, 1.1, 2, 4, 8, 16)]
    assert fidelities == sorted(fidelities, reverse=True)
    between = NoiseGrid("ghz-5", load()["ibm_fez"], [1.1, 2.0]).at(1.1)
    assert np.abs(between - grid.at(1.1)).max() < 1 / sqrt(100_000)


def test_simulated_devices_resemble_what_aer_makes_of_the_same_calibrations():
    """Fidelity of GHZ-5 within .07: ours has the medians over a device, Aer's the particular qubits it was laid on."""
    path = Path(__file__).resolve().parents[1] / "data" / "native-results.jsonl"
    for device in ("fez", "brisbane"):
        natives = [json.loads(line) for line in path.read_text().splitlines()]
        counts = [
            native["result"]["results"][0]["data"]["counts"]
            for native in natives
            if native["device"] == f"fake_{device}" and native["circuit"] == "ghz-5"
        ]
        shares = [(sqrt(one.get("0x0", 0) / 2000) + sqrt(one.get("0x1f", 0) / 2000)) ** 2 for one in counts]
        p = NoiseGrid("ghz-5", load()[f"ibm_{device}"]).at(1.0)
        simulated = (sqrt(p[0] / 2) + sqrt(p[31] / 2)) ** 2
        assert simulated == pytest.approx(np.mean(shares), abs=0.07)


def test_the_calibrations_kept_are_the_medians_of_the_snapshots():
    if not SHARED.exists():
        pytest.skip("the calibration snapshots are not beside this checkout")
    found = {}
    with gzip.open(SHARED, "rt") as lines:
        for line in lines:
            snapshot = json.loads(line)
            kept = load().get(snapshot["backend"])
            if kept is not None and kept.updated_at == snapshot["updated_at"]:
                found[snapshot["backend"]] = summarize(snapshot)
    assert found == load()


def test_every_circuit_is_solved_on_every_device():
    for name in CIRCUITS:
        for calibration in load().values():
            assert NoiseGrid(name, calibration, [1.0, 2.0]).at(1.5).sum() == pytest.approx(1.0)
