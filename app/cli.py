"""The command line: parses, calls, prints. Exit 0 good, 1 the check failed, 2 wrong use or something is missing."""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from app import gate
from app.conventions import EXIT_FAILED, EXIT_USAGE
from app.core.names import one_line, printed
from app.errors import QethicsError, SettingError
from app.paging import command as incidents
from app.rules import command as rules

_INTERRUPTED: Final = 130
_TERMINATED: Final = 143
_BROKEN_PIPE: Final = 141


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Told to stop, a command ends what it started; the worker has its own way of leaving.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        sys.exit(options.run(options))
    except QethicsError as error:
        print(f"qethics: {printed(str(error))}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us has seen enough; nothing may be flushed to it when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qethics", description="Streaming observability for quantum ethics.")
    parser.add_argument("--version", action="version", version=f"qethics {version('qethics')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "embedded broker, worker and load in one, then a summary of every SLI")
    demo.add_argument("--seconds", type=_positive, default=20.0, help="how long to generate load (default 20)")
    demo.add_argument("--input", type=Path, metavar="FILE", help="publish native results of FILE instead of load")
    demo.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    _load_options(demo)

    _gamedays(commands)
    _processes(commands)
    _benches(commands)
    _detection(commands)
    gate.add_commands(commands)
    rules.add_commands(commands, _command)
    incidents.add_commands(commands, _command)

    topics = commands.add_parser("topics", help="topics of the deployment").add_subparsers(required=True)
    create = _command(topics, "create", _topics_create, "create or check every topic")
    create.add_argument("--bootstrap", help="Kafka brokers, host:port")
    create.add_argument("--json", action="store_true", help="print one JSON object")

    contract = _command(commands, "contract", _contract, "write JSON Schema and AsyncAPI of the contract")
    contract.add_argument("--check", action="store_true", help="only check that the files are current")
    contract.add_argument("--directory", type=Path, default=Path("docs/contract"), help="where the files are")

    doctor = _command(commands, "doctor", _doctor, "is every dependency there, reachable and configured")
    doctor.add_argument("--bootstrap", help="Kafka brokers, host:port")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _gamedays(commands: Any) -> None:
    day = _command(commands, "gameday", _gameday, "play failures over steady traffic, and score who is told")
    day.add_argument("failures", nargs="+", metavar="F1..F6|all", help="what is played, in this order")
    day.add_argument("--rate", type=_positive, default=500.0, help="events a second (default 500)")
    day.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
    day.add_argument("--steady", type=_positive, default=600.0, help="seconds before anything is played (default 600)")
    day.add_argument("--spacing", type=_positive, default=100.0, help="seconds from one to the next (default 100)")
    day.add_argument(
        "--recovery", type=_positive, default=600.0, help="seconds at most until all has ended (default 600)"
    )
    day.add_argument("--bootstrap", help="play on this Kafka, host:port, in topics of its own (default: embedded)")
    day.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def _processes(commands: Any) -> None:
    worker = _command(commands, "worker", _worker, "one processor worker; run more to scale")
    worker.add_argument("--bootstrap", help="Kafka brokers, host:port")
    worker.add_argument("--web-port", type=int, help="port of the status page; 0 takes any free one")

    admission = _command(commands, "admission", _admission, "the gate: may this run go ahead? over HTTP and Kafka")
    admission.add_argument("--bootstrap", help="Kafka brokers, host:port")
    admission.add_argument("--admission-port", type=int, help="port of the gate; 0 takes any free one")

    pager = _command(commands, "pager", _pager, "alerts to every Alertmanager, notifications into incidents, runbooks")
    pager.add_argument("--bootstrap", help="Kafka brokers, host:port")
    pager.add_argument("--pager-port", type=int, help="port of the pager; 0 takes any free one")

    simulate = _command(commands, "simulate", _simulate, "the load generator alone, to any Kafka")
    simulate.add_argument("--seconds", type=_positive, default=60.0, help="how long (default 60)")
    simulate.add_argument("--bootstrap", help="Kafka brokers, host:port")
    simulate.add_argument("--json", action="store_true", help="print the truth as one JSON object")
    _load_options(simulate)

    publish = _command(commands, "publish", _publish, "publish recorded native results as events")
    publish.add_argument("file", type=Path, help="JSON lines {sdk, device, circuit, result}, gzip or plain")
    publish.add_argument("--bootstrap", help="Kafka brokers, host:port")
    publish.add_argument("--json", action="store_true", help="print one JSON object")


def _benches(commands: Any) -> None:
    bench = commands.add_parser("bench", help="benchmarks, beside what they are compared with").add_subparsers(
        required=True
    )
    pipeline = _command(bench, "pipeline", _bench_pipeline, "the full path from Kafka, beside its peers")
    pipeline.add_argument("--events", type=int, default=200_000, help="events of each run (default 200000)")
    pipeline.add_argument("--repeats", type=int, default=5, help="rounds; medians count (default 5)")
    pipeline.add_argument("--open-runs", type=int, default=1_000_000, help="open runs to hold (default 1000000)")
    pipeline.add_argument("--json", action="store_true", help="print one JSON object")

    laboratory = _command(bench, "detectors", _bench_detectors, "delay and false alarms of every detector")
    laboratory.add_argument("--profile", choices=("fast", "full"), default="fast", help="fast ends within a minute")
    laboratory.add_argument("--arl", type=_positive, default=10_000.0, help="nominal run length (default 10000)")
    laboratory.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
    laboratory.add_argument("--detector", action="append", default=[], help="measure only this one; may be repeated")
    laboratory.add_argument("--plot", type=Path, metavar="FILE", help="draw delay against run length into an SVG file")
    laboratory.add_argument("--json", action="store_true", help="print one JSON object")

    judged = _command(bench, "policy", _bench_policy, "what a verdict costs, beside the engine alone and OPA")
    judged.add_argument("--runs", type=int, default=50_000, help="runs of the traffic (default 50000)")
    judged.add_argument("--seconds", type=_positive, default=20.0, help="for which the gate is asked (default 20)")
    judged.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
    judged.add_argument("--json", action="store_true", help="print one JSON object")


def _detection(commands: Any) -> None:
    """The commands about baselines."""
    made = _command(commands, "baselines", _baselines, "baselines by simulation, as entries of policies/detectors.yaml")
    made.add_argument("--workload", required=True, help="of the stream")
    made.add_argument("--circuit", required=True, help="ghz-5, bernstein-vazirani-5 or qaoa-ring-4")
    made.add_argument("--backend", required=True, help="a device whose calibration the simulators have")
    made.add_argument("--shots", type=int, default=1_000, help="of a job (default 1000)")
    made.add_argument("--jobs", type=int, default=2_000, help="that are simulated (default 2000)")
    made.add_argument("--seed", type=int, default=1, help="of the simulation (default 1)")

    text = "let a signal of a stream, or a cost center, learn a new baseline; recorded"
    again = _command(commands, "rebaseline", _rebaseline, text)
    for name, text in (
        ("workload", "of the stream"),
        ("backend", "of the stream"),
        ("signal", "fidelity, error_rate, queue_seconds, decision, ..."),
        ("cost-center", "instead of these three: what it spends from now on is its usual, its freeze is lifted"),
    ):
        again.add_argument(f"--{name}", default="", help=text)
    again.add_argument("--by", required=True, help="who decides it")
    again.add_argument("--reason", required=True, help="why; both are in the alert that records it")
    again.add_argument("--bootstrap", help="Kafka brokers, host:port")


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _load_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=_positive, default=1000.0, help="events a second (default 1000)")
    parser.add_argument("--scenario", default="steady", help="steady or fidelity-drift (default steady)")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random (default 1)")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _progress(text: str) -> None:
    """A line of progress, for a person at a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _scenario(name: str) -> str:
    from simulators.scenarios import SCENARIOS

    if name not in SCENARIOS:
        raise SettingError(f"there is no scenario {name!r}", f"choose one of {', '.join(SCENARIOS)}")
    return name


def _demo(options: argparse.Namespace) -> int:
    from app import demo

    summary = demo.run(
        seconds=options.seconds,
        rate=options.rate,
        scenario=_scenario(options.scenario),
        seed=options.seed,
        source=options.input,
        say=_progress,
    )
    _progress("")
    if options.json:
        print(json.dumps(summary, allow_nan=False))
    else:
        print(_summary(summary))
    return 0 if summary["complete"] else EXIT_FAILED


def _summary(summary: dict[str, Any]) -> str:
    from app.core.sli import SLIS

    texts = {sli.id: sli.text for sli in SLIS}
    age = summary["event_to_metric_seconds"]
    lines = [
        f"events in {summary['events_in']}, applied {summary['events_applied']}, duplicates {summary['duplicates']}, "
        f"dead letters {summary['dead_letters']}, lag {summary['lag']}",
        f"event to metric: p50 {age['p50']:.3f} s, p99 {age['p99']:.3f} s",
        f"open runs {summary['open_runs']}, violations {summary['violations']}, drift alerts {summary['drift_alerts']}",
        "",
        f"{'SLI':4} {'good':>9} {'valid':>9} {'ratio':>9}  what is good",
    ]
    for sli, row in summary["sli"].items():
        if row["ratio"] is None:
            lines.append(f"{sli:4} {'-':>9} {'-':>9} {'-':>9}  {texts[sli]} ({row['reason']})")
        else:
            lines.append(f"{sli:4} {row['good']:9} {row['valid']:9} {row['ratio']:9.4%}  {texts[sli]}")
    lines += ["", f"{'workload':24} {'backend':16} {'n':>7} {'fidelity':>9} {'std.err.':>9}"]
    for row in summary["fidelity"]:
        error = f"{row['standard_error']:9.6f}" if row["standard_error"] is not None else f"{'-':>9}"
        lines.append(f"{row['workload']:24} {row['backend']:16} {row['n']:7} {row['mean']:9.6f} {error}")
    return "\n".join(lines)


def _worker(options: argparse.Namespace) -> int:
    from app.main import run_worker
    from app.settings import load

    run_worker(load(bootstrap=options.bootstrap, web_port=options.web_port))
    return 0


def _admission(options: argparse.Namespace) -> int:
    from app.admission.service import run_admission
    from app.settings import load

    run_admission(load(bootstrap=options.bootstrap, admission_port=options.admission_port))
    return 0


def _gameday(options: argparse.Namespace) -> int:
    from app.gameday import run as gameday
    from simulators.scenarios import FAILURES

    names = gameday.ALL if options.failures == ["all"] else options.failures
    for name in names:
        if name not in FAILURES:
            raise SettingError(f"there is no failure {name!r}", f"choose of {', '.join(FAILURES)}, or all")
    report = gameday.run(
        names,
        rate=options.rate,
        seed=options.seed,
        steady_seconds=options.steady,
        spacing_seconds=options.spacing,
        recovery_seconds=options.recovery,
        say=_progress,
        bootstrap=options.bootstrap,
    )
    _progress("")
    print(json.dumps(report, allow_nan=False) if options.json else gameday.table(report))
    return 0 if gameday.good(report) else EXIT_FAILED


def _pager(options: argparse.Namespace) -> int:
    from app.paging.service import run_pager
    from app.settings import load

    run_pager(load(bootstrap=options.bootstrap, pager_port=options.pager_port))
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from app.settings import load
    from simulators.scenarios import SCENARIOS
    from simulators.traffic import Traffic

    settings = load(bootstrap=options.bootstrap)
    scenario = SCENARIOS[_scenario(options.scenario)]
    traffic = Traffic(scenario, seed=options.seed, start=time.time(), rate=options.rate)
    sent = asyncio.run(_send(settings, traffic.for_seconds(options.seconds), paced=True))
    truth = {name: getattr(traffic.truth, name) for name in traffic.truth.__struct_fields__}
    print(json.dumps({"sent": sent, **truth}) if options.json else f"{sent} events sent; truth: {truth}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from app.adapters import read
    from app.settings import load

    sent = asyncio.run(_send(load(bootstrap=options.bootstrap), read(options.file), paced=False))
    print(json.dumps({"sent": sent}) if options.json else f"{sent} results published")
    return 0


async def _send(settings: Any, messages: Any, *, paced: bool) -> int:
    from app import kafka
    from app.publish import publish

    await kafka.ensure_topics(settings)
    producer = await kafka.connected(kafka.producer(settings, linger_ms=5), settings)
    try:
        return await publish(
            producer, messages, settings.topic, paced=paced, progress=lambda sent: _progress(f"{sent} events")
        )
    finally:
        await producer.stop()


def _topics_create(options: argparse.Namespace) -> int:
    from app import kafka
    from app.settings import load

    outcome = asyncio.run(kafka.ensure_topics(load(bootstrap=options.bootstrap)))
    print(json.dumps(outcome) if options.json else "\n".join(f"{topic}: {how}" for topic, how in outcome.items()))
    return 0


def _baselines(options: argparse.Namespace) -> int:
    from app.baselines import synthetic

    found = synthetic(
        options.workload, options.circuit, options.backend, shots=options.shots, jobs=options.jobs, seed=options.seed
    )
    for entry in found:
        print(f"  - {json.dumps(entry)}")  # JSON is YAML
    return 0


def _rebaseline(options: argparse.Namespace) -> int:
    from app.core.streams import Rebaseline
    from app.rebaseline import rebaseline
    from app.settings import load

    names = ("workload", "backend", "signal", "cost_center", "by", "reason")
    asked = Rebaseline(**{name: getattr(options, name) for name in names})
    partition = asyncio.run(rebaseline(load(bootstrap=options.bootstrap), asked))
    of = asked.signal or asked.cost_center
    print(f"asked for a new baseline of {of}; recorded in partition {partition} of the samples")
    return 0


def _bench_pipeline(options: argparse.Namespace) -> int:
    from app.bench import pipeline

    report = pipeline.run(events=options.events, repeats=options.repeats, open_runs=options.open_runs, say=_progress)
    _progress("")
    print(json.dumps(report, allow_nan=False) if options.json else pipeline.table(report))
    return 0


def _bench_detectors(options: argparse.Namespace) -> int:
    from app.bench import detectors

    for name in options.detector:
        if name not in detectors.KNOWN:
            raise SettingError(f"there is no detector {name!r}", f"choose of {', '.join(detectors.KNOWN)}")
    if options.plot is not None:
        detectors.require_drawing()
    report = detectors.run(
        profile=options.profile, arl=options.arl, seed=options.seed, names=options.detector, say=_progress
    )
    if options.plot is not None:
        measured = [name for name in detectors.MEASURED if not options.detector or name in options.detector]
        profile = detectors.PROFILES[options.profile]
        detectors.plot(list(detectors.curves(profile, options.seed, measured, _progress)), options.plot)
    _progress("")
    print(json.dumps(report, allow_nan=False) if options.json else detectors.table(report))
    return 0


def _bench_policy(options: argparse.Namespace) -> int:
    from app.bench import policy

    report = policy.run(runs=options.runs, seed=options.seed, seconds=options.seconds, say=_progress)
    _progress("")
    print(json.dumps(report, allow_nan=False) if options.json else policy.table(report))
    return 0


def _contract(options: argparse.Namespace) -> int:
    from app import contract

    stale = contract.write(options.directory, only_check=options.check)
    for path in stale:
        print(f"{path} is {'not current' if options.check else 'written'}")
    return EXIT_FAILED if options.check and stale else 0


def _doctor(options: argparse.Namespace) -> int:
    from app import doctor
    from app.settings import load

    findings = doctor.examine(load(bootstrap=options.bootstrap))
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            mark = "ok " if finding.ok else "NOT" if finding.needed else "-- "
            print(one_line(f"{mark} {finding.what}: {finding.detail}"))
    return 0 if all(finding.ok for finding in findings if finding.needed) else EXIT_FAILED
