"""Qiskit: `Result.to_dict()` of Aer and of the IBM Runtime's backends."""

from typing import Any

from app.adapters.native import AdapterError, Native

_NOT_GIVEN = {
    "calibration_id": "Qiskit results do not name the calibration they ran on",
    "calibrated_at": "Qiskit results do not say when the device was calibrated",
    "queue_seconds": "Qiskit results carry no time of submission",
    "cost_usd": "Qiskit results carry no price",
    "environment_digest": "Qiskit results carry versions, not a digest of the environment",
}


def adapt(native: Native) -> dict[str, Any]:
    """One result of the contract from one experiment of a Qiskit job; the job is the run.

    Parameters
    ----------
    native
        The line.
    """
    result = native.result
    if not result["success"]:
        raise AdapterError(f"the job did not succeed: {result.get('status')}")
    experiment = result["results"][0]
    number = result.get("experiment_index", 0)
    bits = experiment["header"]["memory_slots"]
    return {
        "event_id": f"qiskit-{result['job_id']}-{number}",
        "run_id": f"qiskit-{result['job_id']}",
        "at": result["date"] if result["date"].endswith("Z") else result["date"] + "Z",
        "workload": native.circuit,
        "provider": native.sdk,
        "backend": native.device,
        "sdk": f"{native.sdk} {result['backend_version']}",
        "shots": experiment["shots"],
        # Hexadecimal, qubit 0 the lowest bit: qubit 0 comes out rightmost.
        "counts": {format(int(key, 16), f"0{bits}b"): count for key, count in experiment["data"]["counts"].items()},
        "ideal_id": native.circuit,
        "circuit_digest": None if native.qasm3_sha256 is None else f"sha256:{native.qasm3_sha256}",
        "seed": experiment.get("seed_simulator"),
        "execution_seconds": experiment.get("time_taken"),
        "not_given": _NOT_GIVEN,
    }
