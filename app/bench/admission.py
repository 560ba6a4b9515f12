"""The gate under load: how long an answer takes at so many requests a second while the stream is worked on beside it.

Broker, worker, load generator, gate and the one who asks share the machine. Requests are sent when they are due,
whatever the answers before them do, and their time counts from then on: a gate that stalls is not asked less.
"""

import asyncio
import collections
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.broker import embedded_broker, free_port
from app.policy import bundle
from app.policy.pack import load_pack, load_tests
from app.process import READY_SECONDS, ServiceProcess, environment
from app.settings import Settings, load

GOAL_P99_SECONDS: Final = 0.05

_RUN: Final = {
    "workload": "route-planning",
    "purpose": "routing",
    "tier": "medium",
    "sensitivity": "internal",
    "runtime": "quantum",
    "submitter": "bench",
    "cost_center": "logistics",
    "consent": {"granted": True, "scopes": ["routing"]},
    "encrypted": True,
    "code_digest": "sha256:c",
    "circuit_digest": "sha256:q",
    "inputs_digest": "sha256:i",
    "environment_digest": "sha256:e",
    "seed": 1,
    "fallback": "classical",
}
_ROUTING: Final = {"provider": "ibm", "endpoint": "ibm-us-east/quantum", "region": "us-east", "backend": "ibm_fez"}


def run(*, seconds: float, rate: float, events_per_second: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure.

    Parameters
    ----------
    seconds, rate
        For how long, and how many requests a second.
    events_per_second
        Of the stream beside it.
    say
        Told about progress.

    Raises
    ------
    EnvironmentFault
        If worker or gate do not become ready.
    """
    with embedded_broker() as bootstrap, tempfile.TemporaryDirectory(prefix="qethics-bench-") as name:
        settings = _settings(bootstrap, Path(name))
        with _service(settings, "worker") as worker, _service(settings, "admission"):
            say(f"the gate at {rate:g} requests/s, the stream at {events_per_second:g} events/s")
            with _load(settings, worker, events_per_second, seconds + READY_SECONDS) as load_generator:
                before = worker.status()["events_applied"]
                took, answers = asyncio.run(_asked(settings, seconds, rate))
                applied = worker.status()["events_applied"] - before
                under_load = load_generator.poll() is None
    p50, p99 = np.quantile(took, [0.5, 0.99]).tolist()
    return {
        "admission_p50_seconds": p50,
        "admission_p99_seconds": p99,
        "admission_most_seconds": max(took),
        "admission_requests": len(took),
        "admission_per_second": rate,
        "admission_answers": answers,
        "stream_events_applied": applied,
        "stream_under_load": under_load,
    }


def _settings(bootstrap: str, directory: Path) -> Settings:
    key = ec.generate_private_key(ec.SECP256R1())
    keys, path = directory / "keys.pub", directory / "bundle.tar.gz"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    keys.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    path.write_bytes(bundle.write(load_pack(version=1), load_tests(), key))
    return load(
        {},
        bootstrap=bootstrap,
        web_port=free_port(),
        admission_port=free_port(),
        policy_bundle=path,
        policy_keys=keys,
        data_directory=directory,
    )


@contextmanager
def _service(settings: Settings, command: str) -> Iterator[ServiceProcess]:
    service = ServiceProcess(settings, settings.data_directory / f"{command}.log", command)
    try:
        service.await_ready()
        yield service
    finally:
        service.stop()


@contextmanager
def _load(
    settings: Settings, worker: ServiceProcess, rate: float, seconds: float
) -> Iterator["subprocess.Popen[bytes]"]:
    """A stream of events that flows: the worker has applied a second's worth of them, however long the start takes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "simulate", "--rate", str(rate), "--seconds", str(seconds)],
        env=environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        worker.await_(lambda: worker.status().get("events_applied", 0) >= rate, "the stream did not flow")
        yield process
    finally:
        process.terminate()
        process.wait()


async def _asked(settings: Settings, seconds: float, rate: float) -> tuple[list[float], dict[str, int]]:
    """Ask at an even pace; how long each answer took from when it was due, and the answers."""
    url = f"http://{settings.admission_host}:{settings.admission_port}/v1/admission"
    answers: collections.Counter[str] = collections.Counter()
    took: list[float] = []

    async def ask(number: int, due: float) -> None:
        async with session.post(url, json=_question(number)) as answer:
            said = await answer.json()
            answers[said.get("answer") or str(answer.status)] += 1
        took.append(time.perf_counter() - due)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        began = time.perf_counter()
        for number in range(int(seconds * rate)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(ask(number, due))
    return took, dict(answers)


def _question(number: int) -> dict[str, Any]:
    """Every other run declares what no run before it did, so that the rules are asked; one in eight is to be denied."""
    shots = 100 + number if number % 2 else 1_000
    routing = {**_ROUTING, "endpoint": "nowhere"} if number % 8 == 0 else _ROUTING
    run = {**_RUN, "shots": shots}
    return {"request_id": f"q-{number}", "run_id": f"admission-{number}", "run": run, "routing": routing}
