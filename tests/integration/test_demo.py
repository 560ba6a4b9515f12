"""`qethics demo` and `qethics publish` as a user runs them."""

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from command import qethics

pytestmark = pytest.mark.broker

DATA = Path(__file__).resolve().parents[1] / "data" / "native-results.jsonl"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "real-results.jsonl.gz"


def test_the_demo_prints_one_object_with_every_indicator():
    done = qethics("demo", "--seconds", "8", "--rate", "1000", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["events_in"] == summary["events_applied"] + summary["duplicates"] + summary["dead_letters"]
    assert summary["dead_letters"] == 0
    assert summary["lag"] == 0
    assert list(summary["sli"]) == [f"M{number}" for number in range(1, 11)]
    for row in summary["sli"].values():
        assert {"good", "valid", "ratio"} <= set(row)
        assert row["ratio"] is not None or row["reason"]
    truth = summary["truth"]
    assert summary["events_applied"] == truth["jobs"] + truth["results"]
    assert summary["duplicates"] == truth["duplicates"]
    assert summary["violations"] == truth["violations"]
    assert summary["sli"]["M3"]["valid"] == truth["decisions"]
    assert summary["sli"]["M3"]["good"] == truth["explained"]
    assert summary["sli"]["M5"]["valid"] == truth["runs"]
    assert summary["sli"]["M5"]["valid"] - summary["sli"]["M5"]["good"] == truth["violating_runs"]
    assert summary["sli"]["M1"]["good"] >= truth["runs"] - truth["incomplete_runs"]
    assert 0 < summary["event_to_metric_seconds"]["p50"] <= summary["event_to_metric_seconds"]["p99"]
    assert {"workload", "backend", "n", "mean", "standard_error"} == set(summary["fidelity"][0])


def test_the_demo_finds_the_drift_that_was_put_in():
    done = qethics("demo", "--seconds", "22", "--rate", "1000", "--scenario", "fidelity-drift", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["drift_alerts"] >= 1


IDEALS = {"ghz-5": {"00000": 0.5, "11111": 0.5}, "bernstein-vazirani-5": {"10110": 1.0}}


def qaoa_ideal():
    """QAOA on a ring of four, from the matrices, with numpy alone."""
    gamma, beta = 0.6, 0.4
    bits = np.array([[index >> qubit & 1 for qubit in range(4)] for index in range(16)])
    spins = 1 - 2 * bits
    energy = sum(spins[:, qubit] * spins[:, (qubit + 1) % 4] for qubit in range(4))
    state = np.exp(-1j * gamma * energy) / 4
    rotation = np.array([[np.cos(beta), -1j * np.sin(beta)], [-1j * np.sin(beta), np.cos(beta)]])
    mixer = np.array([[1.0]])
    for _ in range(4):
        mixer = np.kron(mixer, rotation)
    probabilities = np.abs(mixer @ state) ** 2
    return {format(index, "04b"): float(p) for index, p in enumerate(probabilities)}


def root_means(rate):
    """E sqrt(N) of a Poisson count: the series on the grid of 1/20 that the definition interpolates on."""

    def series(point):
        mass, total = np.exp(-point), 0.0
        for n in range(1, 160):
            mass = mass * point / n
            total += np.sqrt(n) * mass
        return total

    if rate >= 50:
        return np.sqrt(rate) * (1 - 1 / (8 * rate) - 7 / (128 * rate**2))
    low = int(rate * 20)
    return series(low / 20) + (rate * 20 - low) * (series((low + 1) / 20) - series(low / 20))


def fidelity(counts, shots, ideal):
    """The estimator written down a second time, from its definition in `app/core/fidelity.py`."""
    names = sorted(name for name, p in ideal.items() if p > 0)
    p = np.array([ideal[name] for name in names])
    n = np.array([counts.get(name, 0) for name in names], dtype=float)
    outcomes = 2.0 ** len(names[0])
    spread = (p**2).sum() - 1 / outcomes
    f = np.clip(((p * n).sum() / shots - 1 / outcomes) / spread, 0, 1)
    f = np.round(f * 256) / 256
    q = f * p + (1 - f) / outcomes
    rates = np.maximum(shots * q, 0.1)
    means = np.array([root_means(rate) for rate in rates])
    c = 1 + (np.sqrt(rates) / means - 1) * (1 - q)
    s = (np.sqrt(p * n / shots) * c).sum()
    variance = max(0.0, ((p * c**2 * (rates - means**2)).sum() - s**2 / 4) / shots)
    return s**2 - variance


def straight_from(path):
    """Mean fidelity by (circuit, device) of a file of native results."""
    ideals = {**IDEALS, "qaoa-ring-4": qaoa_ideal()}
    found = defaultdict(list)
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for line in text.splitlines():
        native = json.loads(line)
        if native["sdk"] == "qiskit-aer":
            raw = native["result"]["results"][0]
            width = raw["header"]["memory_slots"]
            counts = {format(int(key, 16), f"0{width}b"): n for key, n in raw["data"]["counts"].items()}
            shots = raw["shots"]
        else:
            counts = {key[::-1]: n for key, n in native["result"]["measurementCounts"].items()}
            shots = native["result"]["taskMetadata"]["shots"]
        found[native["circuit"], native["device"]].append(fidelity(counts, shots, ideals[native["circuit"]]))
    return {key: (len(values), float(np.mean(values))) for key, values in found.items()}


@pytest.mark.parametrize("path", [DATA, SHARED], ids=lambda path: path.name)
def test_native_results_go_in_and_their_fidelity_is_that_of_the_file(path):
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout; the subset in tests/data has run")
    expected = straight_from(path)
    total = sum(n for n, _ in expected.values())
    done = qethics("demo", "--input", str(path), "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["events_in"], summary["events_applied"], summary["dead_letters"]) == (total, total, 0)
    shown = {(row["workload"], row["backend"]): (row["n"], row["mean"]) for row in summary["fidelity"]}
    assert set(expected) == set(shown)
    for key, (n, mean) in expected.items():
        assert shown[key][0] == n
        assert shown[key][1] == pytest.approx(mean, abs=1e-9)
