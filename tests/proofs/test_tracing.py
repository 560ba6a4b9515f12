"""Traces from producers through Kafka, worker, gate and a real collector with the shipped configuration."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from asking import post, question
from cluster import Cluster
from otlp import attributes, receiving
from signing import built, key_pair

from app.broker import free_port
from app.catalog import DEFAULT_DIRECTORY
from app.core.trace import RUN, span_id
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

pytestmark = pytest.mark.broker

ROOT = DEFAULT_DIRECTORY.parent
GO = shutil.which("go") or "/usr/local/go/bin/go"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def queries():
    """The TraceQL of the dashboards, with the variable for the run filled in."""
    board = json.loads((ROOT / "grafana/dashboards/debug.json").read_text())
    targets = [target for panel in board["panels"] for target in panel["targets"] if "query" in target]
    return [target["query"].replace("$run", ".*") for target in targets]


@pytest.mark.once
def test_grafanas_own_grammar_takes_every_query_for_traces(tmp_path):
    directory = shutil.copytree(ROOT / "tests/traceql", tmp_path / "traceql", ignore=shutil.ignore_patterns("node_m*"))
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=directory, check=True, capture_output=True)

    def broken(texts):
        program = ["node", str(directory / "parse.js")]
        done = subprocess.run(program, input="\n".join(texts), capture_output=True, text=True, check=True)
        return done.stdout

    assert len(queries()) == 3
    assert broken(queries()) == ""
    assert broken(["{ resource.service.name = "]) != ""


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    """The OpenTelemetry collector with the shipped configuration, and what it sends on."""
    directory = tmp_path_factory.mktemp("collector")
    binary, config = directory / "collector", ROOT / "deploy/otel-collector/otel-collector.yaml"
    subprocess.run([GO, "build", "-o", binary, "."], cwd=Path(__file__).parent.parent / "collector", check=True)
    listen = f"127.0.0.1:{free_port()}"
    with receiving() as (receiver, url), (directory / "log").open("wb") as log:
        environment = {**os.environ, "LISTEN": listen, "TEMPO_ENDPOINT": url}
        subprocess.run([binary, "validate", "--config", config], env=environment, check=True)
        process = subprocess.Popen([binary, "--config", config], env=environment, stdout=log, stderr=log)
        try:
            yield receiver, f"http://{listen}/v1/traces"
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def deployment(bootstrap, collector, tmp_path_factory):
    """A worker and a gate that send what they trace to the collector."""
    _, endpoint = collector
    directory = tmp_path_factory.mktemp("traced")
    pair, bundle = key_pair(directory), directory / "bundle.tar.gz"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 5))
    made = Cluster(
        bootstrap,
        directory,
        closing={"grace_seconds": 3, "settle_seconds": 1},
        policy_bundle=bundle,
        policy_keys=pair.public,
        otlp_endpoint=endpoint,
        trace_ratio=1.0,
        trace_runs_per_second=1000.0,
    )
    asyncio.run(made.topics())
    made.start()
    made.gate()
    made.await_ready()
    yield made
    made.end()


def test_runs_arrive_as_spans_below_those_of_their_producers(deployment, collector):
    receiver, _ = collector
    traffic = Traffic(SCENARIOS["unauthorized-routing"], seed=4, start=time.time() - 5, rate=500, traced=True)
    messages = traffic.runs(60)
    sent = {message.key.decode(): dict(message.headers)["traceparent"].decode() for message in messages}
    asyncio.run(deployment.produce(messages))

    def runs():
        return {attributes(span)["qethics.run_id"]: span for span in receiver.named("run")}

    deployment.await_(lambda: runs().keys() >= sent.keys(), 60, "every run traced")
    for run_id, header in sent.items():
        span = runs()[run_id]
        assert f"00-{span.trace_id.hex()}-{span.parent_span_id.hex()}-00" == header
        assert span.span_id.hex() == span_id(run_id, RUN)
    whole = [attributes(span) for span in runs().values()]
    assert {each["qethics.verdict"] for each in whole} == {"allow", "deny"}
    assert all(0 < each["qethics.fidelity"] <= 1 for each in whole)
    states = {span.name for span in receiver.spans}
    assert {"submitted", "admitted", "routed", "started", "completed", "decision", "violation"} <= states
    deployment.await_(lambda: {"apply", "write", "checkpoint"} <= {span.name for span in receiver.spans}, 30, "our own")
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano for span in receiver.spans)
    # What follows from a run carries its trace on.
    for topic in ("violations", "evidence"):
        records = [record for run in asyncio.run(deployment.read(topic)).values() for record in run]
        assert records
        for record in records:
            run_id = record.key.decode()
            (header,) = [text.decode() for name, text in record.headers if name == "traceparent"]
            assert header == f"{sent[run_id][:36]}{span_id(run_id, RUN)}-00"
    # A panel leads to a trace by what Prometheus is given with the figures (OpenMetrics 1.0, "Exemplars").
    asked = urllib.request.Request(
        f"http://127.0.0.1:{deployment.workers[0].port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        shown = re.findall(r'(qethics_\w+)\{.* # \{[^}]*trace_id="(\w+)"', answer.read().decode())
    assert {name for name, _ in shown} == {"qethics_fidelity_ratio_bucket", "qethics_policy_violations_total"}
    assert {trace for _, trace in shown} <= {header[3:35] for header in sent.values()}
    page = deployment.workers[0].page("/metrics")
    assert float(re.search(r'qethics_trace_spans_total\{outcome="failed"\} (\S+)', page)[1]) == 0
    assert float(re.search(r'qethics_trace_spans_total\{outcome="exported"\} (\S+)', page)[1]) > len(sent)


def test_the_gate_s_answer_is_part_of_the_trace_of_its_request(deployment, collector):
    receiver, _ = collector
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert post(deployment.gates[0], "/v1/admission", question("run-asked"), headers)[0] == 200
    deployment.await_(lambda: receiver.named("admission"), 30, "the gate's span")
    (span,) = [each for each in receiver.named("admission") if attributes(each)["qethics.run_id"] == "run-asked"]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(span)["qethics.answer"] == "allow"


def test_what_dashboards_ask_of_traces_is_there(deployment, collector):
    receiver, _ = collector
    refused = question("run-refused", shots=1)
    assert post(deployment.gates[0], "/v1/admission", refused)[0] == 200
    deployment.await_(
        lambda: any(attributes(each)["qethics.run_id"] == "run-refused" for each in receiver.named("admission")),
        30,
        "the refusal",
    )
    for query in queries():
        (name,) = re.findall(r'name = "([a-z]+)"', query.split("&&", 1)[1])
        wanted = set(re.findall(r"span\.(qethics\.\w+)", query))
        assert wanted <= {key for span in receiver.named(name) for key in attributes(span)}, query
    assert receiver.services == {"qethics"}
