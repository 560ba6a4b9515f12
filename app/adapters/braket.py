"""Amazon Braket: `GateModelTaskResult` as the SDK serialises it."""

from typing import Any

from app.adapters.native import AdapterError, Native

_NOT_GIVEN = {
    "calibration_id": "Braket tasks do not name the calibration they ran on",
    "calibrated_at": "Braket tasks do not say when the device was calibrated",
    "queue_seconds": "Braket tasks carry no time of starting, only of creation and end",
    "execution_seconds": "Braket tasks carry no time of starting, only of creation and end",
    "cost_usd": "Braket results carry no price",
    "seed": "Braket takes no seed",
    "circuit_digest": "Braket results carry no digest of the circuit",
    "environment_digest": "Braket results carry no description of the environment",
}


def adapt(native: Native) -> list[dict[str, Any]]:
    """The result of the contract from one Braket task. Parameters as in `app.adapters.qiskit.adapt`."""
    task = native.result["taskMetadata"]
    counts = native.result["measurementCounts"]
    if not counts:
        raise AdapterError("the task carries no measurement counts")
    result = {
        "event_id": f"braket-{task['id']}",
        "run_id": f"braket-{task['id']}",
        "at": task["endedAt"],
        "workload": native.circuit,
        "provider": native.sdk,
        "backend": native.device,
        "sdk": native.sdk,
        "shots": task["shots"],
        # Braket writes qubit 0 first; here it is rightmost.
        "counts": {bits[::-1]: count for bits, count in counts.items()},
        "ideal_id": native.circuit,
        "not_given": _NOT_GIVEN,
    }
    return [result]
