"""Qiskit: `Result.to_dict()` of Aer and of the IBM Runtime's backends."""

from datetime import UTC, datetime
from typing import Any

from app.adapters.native import AdapterError, Native

_NOT_GIVEN = {
    "calibration_id": "Qiskit results do not name the calibration they ran on",
    "calibrated_at": "Qiskit results do not say when the device was calibrated",
    "queue_seconds": "Qiskit results carry no time of submission",
    "cost_usd": "Qiskit results carry no price",
    "environment_digest": "Qiskit results carry versions, not a digest of the environment",
}


def adapt(native: Native) -> list[dict[str, Any]]:
    """The results of the contract from one Qiskit job, one for each experiment; the job is the run.

    Parameters
    ----------
    native
        The line.
    """
    result = native.result
    if not result["success"]:
        raise AdapterError(f"the job did not succeed: {result.get('status')}")
    first = result.get("experiment_index", 0)
    return [_result(native, first + index, experiment) for index, experiment in enumerate(result["results"])]


def _result(native: Native, number: int, experiment: dict[str, Any]) -> dict[str, Any]:
    result = native.result
    bits = experiment["header"]["memory_slots"]
    return {
        "event_id": f"qiskit-{result['job_id']}-{number}",
        "run_id": f"qiskit-{result['job_id']}",
        "at": _utc(result["date"]),
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


def _utc(date: str) -> str:
    """Aer writes local time without an offset; where there is none, it is taken for UTC."""
    instant = datetime.fromisoformat(date)
    return instant.isoformat() if instant.tzinfo else instant.replace(tzinfo=UTC).isoformat()
