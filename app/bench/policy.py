"""`qethics bench policy`: what a verdict costs in the stream, beside the engine asked anew and OPA; and the gate.

A decision here is all of it: the event's bytes are decoded and checked against the schema, the facts are put together,
and the policy judges, in the engine's own process where they are new. CPU is that of both processes.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from app.bench import admission
from app.catalog import DEFAULT_DIRECTORY
from app.conventions import JOBS
from app.core import events, facts
from app.core.decode import Rejection, decode_job
from app.core.facts import DecisionFacts, Facts
from app.core.policy import Policy
from app.core.run import Declared, Derived, Routing, routing_values
from app.policy.evaluator import Evaluator
from app.policy.inline import Inline
from app.policy.pack import load_pack
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

_GOALS: Final = {"decisions_per_cpu_second": 20_000.0, "stream_p99_seconds": 1e-3}
_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: The events that are judged, and what they are judged by.
_JUDGED: Final = tuple(f'{{"type":"{kind}"'.encode() for kind in ("submitted", "routed", "decision"))
_START: Final = 1_790_000_000.0


def run(*, runs: int, seed: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure.

    Parameters
    ----------
    runs
        Runs of the traffic, > 0; two events of each are judged.
    seed
        Of the traffic.
    seconds
        For how long the gate is asked.
    say
        Told about progress.

    Returns
    -------
    Decisions per CPU-second and 50 % and 99 % points of their time, in seconds: of the stream, of facts never seen
    before, and of the engine alone; OPA's mean where it is installed; what the gate takes (`app.bench.admission`).
    """
    pack = load_pack()
    values = [message.value for message in _traffic(seed).runs(runs) if message.topic == JOBS]
    values = [value for value in values if value.startswith(_JUDGED)]
    evaluate = Evaluator.of(pack)
    try:
        evaluate.ready()
        say("the stream")
        stream = _measured(_stream(values, Policy(pack, evaluate)), evaluate)
        say("facts never seen before")
        documents = list(_documents(min(runs, 5_000)))
        new = _measured(_new(documents, Policy(pack, evaluate)), evaluate)
    finally:
        evaluate.close()
    say("the engine alone")
    inline = Inline(pack.modules, pack.data)
    engine = _measured((inline(document) for document in documents), None)
    gate = admission.run(seconds=seconds, rate=200.0, events_per_second=4_000.0, say=say)
    return {
        **gate,
        "rules": len(pack.rules),
        "decisions_per_cpu_second": stream["per_cpu_second"],
        "stream_p50_seconds": stream["p50_seconds"],
        "stream_p99_seconds": stream["p99_seconds"],
        "decisions": stream["decisions"],
        "new_facts": new,
        "engine": engine,
        "opa_mean_seconds": _opa(pack.data, documents[0]),
        "goals": {
            "decisions_per_cpu_second": stream["per_cpu_second"] >= _GOALS["decisions_per_cpu_second"],
            "stream_p99_seconds": stream["p99_seconds"] <= _GOALS["stream_p99_seconds"],
            "admission_p99_seconds": gate["admission_p99_seconds"] <= admission.GOAL_P99_SECONDS,
        },
    }


def _traffic(seed: int) -> Traffic:
    return Traffic(SCENARIOS["steady"], seed=seed, start=_START, rate=1000)


def _stream(values: list[bytes], policy: Policy) -> Iterator[object]:
    """Judge every routing and decision of the traffic, as it comes."""
    known: dict[str, tuple[Declared, Derived]] = {}
    for value in values:
        event = decode_job(value)
        if isinstance(event, Rejection):
            raise TypeError(event.detail)
        if isinstance(event, events.Submitted):
            known[event.run_id] = facts.declared(event), facts.derived(event)
            continue
        declared, derived = known[event.run_id]
        if isinstance(event, events.Routed):
            asked = Facts((facts.RUN, facts.ROUTING), declared, derived, Routing(*routing_values(event)))
        else:
            made = DecisionFacts(event.explanation is not None, event.acted_on)  # type: ignore[union-attr]
            asked = Facts((facts.DECISION,), declared, derived, decision=made)
        yield policy.judge(asked)


def _documents(count: int) -> Iterator[bytes]:
    """Input documents of routings, no two alike."""
    submitted, routed = (
        next(decode_job(message.value) for message in _traffic(1).runs(50) if kind in message.value)
        for kind in (b'"workload":"credit-scoring"', b'"type":"routed"')
    )
    declared, derived = facts.declared(submitted), facts.derived(submitted)  # type: ignore[arg-type]
    routing = Routing(*routing_values(routed))
    for number in range(count):
        other = msgspec.structs.replace(declared, shots=1_000 + number)
        yield msgspec.json.encode(Facts((facts.RUN, facts.ROUTING), other, derived, routing).document())


def _new(documents: list[bytes], policy: Policy) -> Iterator[object]:
    for document in documents:
        yield policy.decide(document)


def _measured(decisions: Iterator[object], evaluate: Evaluator | None) -> dict[str, float]:
    """The time of every decision, and the CPU of all of them, the engine's process included."""
    took: list[float] = []
    cpu = _cpu_seconds(evaluate)
    began = time.perf_counter()
    for _ in decisions:
        now = time.perf_counter()
        took.append(now - began)
        began = now
    used = _cpu_seconds(evaluate) - cpu
    p50, p99 = np.quantile(took, [0.5, 0.99]).tolist()
    return {"decisions": len(took), "per_cpu_second": len(took) / used, "p50_seconds": p50, "p99_seconds": p99}


def _cpu_seconds(evaluate: Evaluator | None) -> float:
    """Of this process and of the one that evaluates (proc(5): the 14th and 15th field of `stat`, in clock ticks)."""
    own = time.process_time()
    if evaluate is None:
        return own
    fields = Path(f"/proc/{evaluate.process_id}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[11]) + int(fields[12])) / _TICKS


def _opa(data: Any, document: bytes) -> float | None:
    """OPA's own mean for the same rules and one of the documents; None where there is no `opa`."""
    opa = shutil.which("opa")
    if opa is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "data.json").write_bytes(msgspec.json.encode(data))
        (directory / "input.json").write_bytes(document)
        command = [opa, "bench", "--format", "json", "-d", str(DEFAULT_DIRECTORY / "rules"), "-d"]
        command += [str(directory / "data.json"), "-i", str(directory / "input.json"), "data.qethics.decision"]
        done = subprocess.run(command, capture_output=True, check=True)
    found = json.loads(done.stdout)
    return float(found["T"]) / float(found["N"]) / 1e9


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    new, engine, opa = report["new_facts"], report["engine"], report["opa_mean_seconds"]
    rows = [
        ("stream", report["decisions_per_cpu_second"], report["stream_p50_seconds"], report["stream_p99_seconds"]),
        ("new facts", new["per_cpu_second"], new["p50_seconds"], new["p99_seconds"]),
        ("engine alone", engine["per_cpu_second"], engine["p50_seconds"], engine["p99_seconds"]),
    ]
    lines = [f"{report['rules']} rules, {report['decisions']} decisions"]
    lines.append(f"{'':14}{'decisions/CPU-s':>16}{'p50 us':>10}{'p99 us':>10}")
    lines += [f"{name:14}{rate:16,.0f}{p50 * 1e6:10.1f}{p99 * 1e6:10.1f}" for name, rate, p50, p99 in rows]
    lines.append(
        f"the gate at {report['admission_per_second']:g} requests/s beside the stream: p50 "
        f"{report['admission_p50_seconds'] * 1e3:.1f} ms, p99 {report['admission_p99_seconds'] * 1e3:.1f} ms, "
        f"{report['admission_answers']}"
    )
    lines.append(f"OPA: {opa * 1e6:.1f} us on average" if opa is not None else "OPA: there is no `opa` on the path")
    lines += [f"goal: {name} {'met' if met else 'MISSED'}" for name, met in report["goals"].items()]
    return "\n".join(lines)
