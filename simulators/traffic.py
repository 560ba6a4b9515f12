"""Whole job lifecycles as wire records: same seed, same start, same bytes.

Runs are made in blocks. The physics is solved beforehand on a grid of noise; here it is only sampled, and records are
written straight as JSON text, so that one core makes some ten thousands of results a second.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from app.core.events import Runtime, Sensitivity, Tier
from simulators.calibrations import Calibration, load
from simulators.physics import NoiseGrid
from simulators.scenarios import Scenario

#: Outcomes and choices are drawn for this many runs at once.
BLOCK_RUNS: Final = 256
#: A block covers at most this much simulated time, so that what changes over time changes in small steps.
BLOCK_SECONDS: Final = 0.5
SHOTS: Final = 1000
POLICY_REVISION: Final = "simulated"


class Message(NamedTuple):
    """One record to publish: when (seconds since the epoch), where, and its bytes."""

    at: float
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Job(Struct, frozen=True):
    """A kind of job the traffic is made of."""

    workload: str
    circuit: str
    purpose: str
    tier: Tier
    sensitivity: Sensitivity
    runtime: Runtime
    cost_center: str
    feature: str
    #: Lowest explanation score of an explained decision.
    score: float


class Device(Struct, frozen=True):
    """Where jobs are sent."""

    backend: str
    endpoint: str
    region: str


JOBS: Final = (
    Job(
        "credit-scoring",
        "qaoa-ring-4",
        "credit-decision",
        "high",
        "regulated",
        "hybrid",
        "lending",
        "limits",
        0.85,
    ),
    Job("route-planning", "ghz-5", "routing", "medium", "internal", "quantum", "logistics", "eta", 0.65),
    Job("bid-pricing", "bernstein-vazirani-5", "bidding", "low", "public", "quantum", "marketing", "bids", 0.6),
)
DEVICES: Final = (
    Device("ibm_fez", "ibm-us-east/quantum", "us-east"),
    Device("ibm_brisbane", "ibm-us-east/quantum", "us-east"),
    Device("ibm_marrakesh", "ibm-eu-de/quantum", "eu-de"),
)
#: An endpoint that is approved for no sensitive run.
WRONG: Final = ("aws-braket", "braket-us-west-1", "us-west-1")


class Truth(Struct):
    """What was really sent: an observer who saw everything would count exactly this."""

    runs: int = 0
    jobs: int = 0
    results: int = 0
    duplicates: int = 0
    violations: int = 0
    violating_runs: int = 0
    unauthorized: int = 0
    decisions: int = 0
    explained: int = 0
    incomplete_runs: int = 0
    microdollars: dict[str, int] = field(default_factory=dict)

    @property
    def unique(self) -> int:
        """Events that are no repeats."""
        return self.jobs + self.results


def digest(*parts: object) -> str:
    """A SHA-256 over some values, as the contract writes digests."""
    return "sha256:" + sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def instant(at: float) -> str:
    """Seconds since the epoch as RFC 3339 with microseconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Traffic:
    """Endless job lifecycles.

    Parameters
    ----------
    scenario
        How devices behave, and the shares of natural faults.
    seed
        Everything random follows from it.
    start
        When the first run begins, seconds since the epoch.
    rate
        Events a second, jobs and results together, > 0.
    results_per_run
        Circuits of one run, >= 1; 8 makes as many results as job events.
    traced
        Whether producers say in a header which trace a run is part of.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        start: float,
        rate: float,
        results_per_run: int = 1,
        traced: bool = False,
    ) -> None:
        self.truth = Truth()
        self._scenario = scenario
        #: When what is played now began, in seconds from the start.
        self._since = 0.0
        self._seed = seed
        self._start = start
        self._results_per_run = results_per_run
        self._traced = traced
        self._runs_per_second = rate / (_JOB_EVENTS + results_per_run)
        self._rng = np.random.default_rng(seed)
        self._calibrations: dict[str, Calibration] = load()
        self._grids = {
            (job.circuit, device.backend): NoiseGrid(job.circuit, self._calibrations[device.backend])
            for job in JOBS
            for device in DEVICES
        }
        self._templates = {job.workload: _submission(job) for job in JOBS}
        self._sequence: dict[str, int] = {}
        self._made = 0
        self._replays = 0

    def play(self, scenario: Scenario) -> float:
        """Go on with another scenario; returns when its first run begins, in seconds since the epoch."""
        self._scenario, self._since = scenario, self._made / self._runs_per_second
        return self._start + self._since

    def replay(self, run_id: str, workload: str, backend: str, *, at: float) -> list[Message]:
        """A run made again, as the processor asked for: its result, with what it repeats.

        Parameters
        ----------
        run_id, workload, backend
            The original's.
        at
            When, in seconds since the epoch.
        """
        job = next((each for each in JOBS if each.workload == workload), None)
        if job is None or backend not in self._calibrations or backend not in {each.backend for each in DEVICES}:
            return []
        grid = self._grids[job.circuit, backend]
        shares = grid.at(1.0)
        if self._scenario.replays_diverge:
            # One qubit is read the wrong way round. Reversing the whole string would change nothing that is symmetric.
            shares = shares[np.arange(len(shares)) ^ 1]
        (text,) = _counts(self._rng.multinomial(SHOTS, shares, size=1), grid.qubits)
        self._replays += 1
        number = f"{self._seed}-again-{self._replays}"
        calibration = self._calibrations[backend]
        value = (
            f'{{"run_id":"run-{number}","event_id":"result-{number}","at":"{instant(at)}","producer":"replayer",'
            f'"seq":{self._next("replayer")},"workload":"{workload}","provider":"ibm","backend":"{backend}",'
            f'"sdk":"qiskit","shots":{SHOTS},"counts":{text},"ideal_id":"{job.circuit}",'
            f'"calibration_id":"{calibration.id}","calibrated_at":"{instant(at - at % 86_400)}",'
            f'"replay_of":"{run_id}"}}'
        )
        return [Message(at, "results", f"run-{number}".encode(), value.encode())]

    def runs(self, count: int) -> list[Message]:
        """The records of `count` whole runs, in the order of their time."""
        made: list[Message] = []
        until = self._made + count
        while self._made < until:
            made += self._block(until - self._made)
        made.sort(key=_by_time)
        return made

    def for_seconds(self, seconds: float) -> Iterator[Message]:
        """The records of all runs that begin within `seconds`, to their ends, in the order of their time."""
        waiting: list[Message] = []
        while self._made < seconds * self._runs_per_second:
            waiting += self._block()
            waiting.sort(key=_by_time)
            now = self._start + self._made / self._runs_per_second
            ready = next((index for index, message in enumerate(waiting) if message.at > now), len(waiting))
            yield from waiting[:ready]
            waiting = waiting[ready:]
        yield from waiting

    # -- one block ---------------------------------------------------------------------------------------------------

    def _block(self, most: int = BLOCK_RUNS) -> list[Message]:
        size = min(most, BLOCK_RUNS, max(1, int(self._runs_per_second * BLOCK_SECONDS)))
        rng = self._rng
        jobs = rng.integers(len(JOBS), size=size).tolist()
        devices = rng.integers(len(DEVICES), size=size).tolist()
        draws = rng.random((size, 8)).tolist()
        counts = self._sample(jobs, devices)
        made: list[Message] = []
        for index in range(size):
            first = index * self._results_per_run
            outcomes = counts[first : first + self._results_per_run]
            before = len(made)
            self._run(made, JOBS[jobs[index]], DEVICES[devices[index]], draws[index], outcomes)
            if self._traced:
                headers = (("traceparent", f"00-{rng.bytes(16).hex()}-{rng.bytes(8).hex()}-00".encode()),)
                made[before:] = [message._replace(headers=headers) for message in made[before:]]
            self._made += 1
        return made

    def _sample(self, jobs: list[int], devices: list[int]) -> list[str]:
        """Measured counts of every result of a block, as JSON, in the order of the runs."""
        seconds = self._made / self._runs_per_second - self._since
        texts = [""] * (len(jobs) * self._results_per_run)
        for job_index, job in enumerate(JOBS):
            for device_index, device in enumerate(DEVICES):
                chosen = [
                    run * self._results_per_run + result
                    for run in range(len(jobs))
                    if jobs[run] == job_index and devices[run] == device_index
                    for result in range(self._results_per_run)
                ]
                if not chosen:
                    continue
                grid = self._grids[job.circuit, device.backend]
                probabilities = grid.at(self._scenario.error_scale(device.backend, seconds))
                rows = self._rng.multinomial(SHOTS, probabilities, size=len(chosen))
                for place, text in zip(chosen, _counts(rows, grid.qubits), strict=True):
                    texts[place] = text
        return texts

    def _run(self, made: list[Message], job: Job, device: Device, draw: list[float], outcomes: list[str]) -> None:
        shares = self._scenario
        at = self._start + self._made / self._runs_per_second
        number = f"{self._seed}-{self._made}"
        run_id = f"run-{number}"
        key = run_id.encode()
        truth = self.truth
        truth.runs += 1
        unencrypted = draw[0] < shares.unencrypted_share
        misrouted = draw[1] < shares.misrouted_share
        incomplete = draw[2] < shares.incomplete_share
        explained = draw[3] >= shares.unexplained_share
        provider, endpoint, region = WRONG if misrouted else ("ibm", device.endpoint, device.region)
        sensitive = job.sensitivity == "regulated"
        # A run sent to the wrong place breaks three rules: the endpoint's, the region's and the contract's. What a
        # run leaves out is owed from medium tier up, and an explanation by high tier alone.
        violations = (
            (unencrypted and sensitive)
            + 3 * (misrouted and sensitive)
            + (incomplete and job.tier != "low")
            + (job.tier == "high" and not explained)
        )
        truth.violations += violations
        truth.violating_runs += violations > 0
        truth.unauthorized += misrouted and sensitive
        truth.decisions += 1
        truth.explained += explained
        # A high-tier run owes an explanation of its decision.
        truth.incomplete_runs += incomplete or (job.tier == "high" and not explained)

        def job_event(offset: float, kind: str, producer: str, rest: str = "") -> None:
            if self._is_lost(producer):
                return
            made.append(
                Message(
                    at + offset,
                    "jobs",
                    key,
                    f'{{"type":"{kind}","event_id":"{kind}-{number}","run_id":"{run_id}","at":"{instant(at + offset)}",'
                    f'"producer":"{producer}","seq":{self._next(producer)}{rest}}}'.encode(),
                )
            )
            truth.jobs += 1

        backend = device.backend
        runtime = f"runtime-{backend}"
        own = (
            f',"subject_token":"tok-{number}","encrypted":{"false" if unencrypted else "true"},"seed":{self._made}'
            + ("" if incomplete else f',"inputs_digest":"{digest(run_id)}"')
        )
        if not (incomplete and job.tier == "low"):
            own += f',"code_digest":"{digest("code", job.workload)}"'
        job_event(0.0, "submitted", "gateway", self._templates[job.workload] + own)
        job_event(0.01, "admitted", "scheduler", f',"decision_id":"d-{number}","policy_revision":"{POLICY_REVISION}"')
        job_event(
            0.02,
            "routed",
            "scheduler",
            f',"provider":"{provider}","endpoint":"{endpoint}","region":"{region}","backend":"{backend}",'
            f'"runtime":"{job.runtime}","queue_depth":{int(draw[4] * 20)},"expected_wait_seconds":{draw[5] * 30:.3f}',
        )
        job_event(0.1, "started", runtime)
        for index, counts in enumerate(outcomes):
            self._result(made, job, device, at + 0.2 + index * 0.01, (run_id, f"{number}-{index}"), counts, draw)
        done = 0.3 + len(outcomes) * 0.01
        timed_out = shares.timed_out_shares.get(backend, 0.0)
        job_event(done, "timed_out" if timed_out and self._rng.random() < timed_out else "completed", runtime)
        explanation = (
            f'{{"method":"shap","digest":"{self._digests[job.workload]}",'
            f'"score":{job.score + (1 - job.score) * draw[6]:.4f}}}'
            if explained
            else "null"
        )
        job_event(done + 0.01, "review", "decisions", ',"reviewer":"reviewer-1","verdict":"agreed"')
        job_event(
            done + 0.02,
            "decision",
            "decisions",
            f',"decision_ref":"ref-{number}","outcome":"{"approve" if draw[7] < 0.7 else "decline"}",'
            f'"explanation":{explanation},"acted_on":true',
        )
        microdollars = int((10_000 + int(draw[4] * 5_000)) * shares.cost_factor)
        job_event(done + 0.04, "cost", "billing", f',"amount_usd":{microdollars / 1e6:.6f},"units":"seconds"')
        center = truth.microdollars
        center[job.cost_center] = center.get(job.cost_center, 0) + microdollars
        if draw[6] < shares.duplicate_share * (_JOB_EVENTS + len(outcomes)):
            repeated = made[-1 - int(draw[7] * (_JOB_EVENTS + len(outcomes)))]
            made.append(repeated._replace(at=repeated.at + 0.5))
            truth.duplicates += 1

    def _result(
        self,
        made: list[Message],
        job: Job,
        device: Device,
        at: float,
        ids: tuple[str, str],
        counts: str,
        draw: list[float],
    ) -> None:
        run_id, number = ids
        waited = draw[4] * 20 * self._scenario.queue_factors.get(device.backend, 1.0)
        calibration = self._calibrations[device.backend]
        producer = f"runtime-{device.backend}"
        made.append(
            Message(
                at,
                "results",
                run_id.encode(),
                f'{{"run_id":"{run_id}","event_id":"result-{number}","at":"{instant(at)}","producer":"{producer}",'
                f'"seq":{self._next(producer)},"workload":"{job.workload}","provider":"ibm",'
                f'"backend":"{device.backend}","sdk":"qiskit","shots":{SHOTS},"counts":{counts},'
                f'"ideal_id":"{job.circuit}","calibration_id":"{calibration.id}",'
                f'"calibrated_at":"{instant(at - at % 86_400)}","seed":{self._made},'
                f'"queue_seconds":{waited:.3f},"execution_seconds":{1 + draw[5]:.3f}}}'.encode(),
            )
        )
        self.truth.results += 1

    def _is_lost(self, producer: str) -> bool:
        """Whether an event is lost on its way; its number is not used again."""
        share = self._scenario.lost_shares.get(producer, 0.0)
        if not share or self._rng.random() >= share:
            return False
        self._next(producer)
        return True

    def _next(self, producer: str) -> int:
        number = self._sequence.get(producer, 0)
        self._sequence[producer] = number + 1
        return number

    _digests: Final = {job.workload: digest("explanation", job.workload) for job in JOBS}


#: Job events of one run.
_JOB_EVENTS: Final = 8


def _by_time(message: Message) -> float:
    return message.at


def _submission(job: Job) -> str:
    """What every submission of a job says, as JSON members."""
    members: dict[str, Any] = {
        "workload": job.workload,
        "purpose": job.purpose,
        "tier": job.tier,
        "sensitivity": job.sensitivity,
        "runtime": job.runtime,
        "submitter": f"svc-{job.cost_center}",
        "cost_center": job.cost_center,
        "feature": job.feature,
        "circuit_digest": digest("circuit", job.circuit),
        "environment_digest": digest("environment"),
    }
    text = "".join(f',"{name}":"{value}"' for name, value in members.items())
    consent = f'{{"granted":true,"scopes":["{job.purpose}","third-party-compute"]}}'
    return f'{text},"consent":{consent},"shots":{SHOTS},"canary":false,"fallback":"classical"'


def _counts(rows: NDArray[np.int64], qubits: int) -> Iterator[str]:
    names = [f'"{index:0{qubits}b}":' for index in range(2**qubits)]
    for row in rows.tolist():
        yield "{" + ",".join([name + str(n) for name, n in zip(names, row, strict=True) if n]) + "}"
