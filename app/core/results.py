"""What a result says: an observation for the streams, and its share in the evidence of its run."""

from hashlib import sha256
from typing import Final

from app.core import events
from app.core.bitstrings import packed
from app.core.catalog import Catalog
from app.core.evidence import BITS, mask
from app.core.fidelity import Ideal
from app.core.outcomes import CANARY, Observation
from app.core.output import Output
from app.core.remembered import Remembered
from app.core.reproducibility import Counted
from app.core.run import Origin, Results, Run
from app.core.shared import Shared

_DIGEST_MODULUS: Final = 1 << 256
_REMEMBERED: Final = 16_384
_FIDELITY: Final = BITS["fidelity"]
_SIGNATURE: Final = BITS["signature"]
_GIVEN_ONCE: Final = (
    "calibration_id",
    "calibrated_at",
    "result_environment_digest",
    "result_digest",
    "result_shots",
)


#: Parameters younger than this count as fresh: nine in ten of those that devices publish are.
FRESH_SECONDS: Final = 48 * 3600.0


def _freshness(age_seconds: float | None) -> str:
    if age_seconds is None:
        return "unknown"
    return "fresh" if age_seconds < FRESH_SECONDS else "stale"


#: Freshness -> the counter of results of it.
_CALIBRATED: Final = {
    "unknown": ("calibrated", "unknown"),
    "fresh": ("calibrated", "fresh"),
    "stale": ("calibrated", "stale"),
}


def stream_key(workload: str, backend: str) -> str:
    """The key of a (workload, backend) pair in `samples`; the separator is in neither name."""
    return f"{workload}\x1f{backend}"


class Observer:
    """Makes observations of results.

    Parameters
    ----------
    catalog
        The ideal distributions and the names of streams.
    output
        Where observations go.
    """

    def __init__(self, catalog: Catalog, output: Output) -> None:
        self._catalog = catalog
        self._output = output
        self._replays = catalog.alerting.replays
        self._most_replayed = self._replays.most
        self._keys = Remembered(self._key, _REMEMBERED)

    def observe(self, event: events.Result, at: float, offset: int) -> Observation:
        """The observation a result makes, handed on to the streams; `at` is the event's, in seconds since the epoch."""
        ideal = self._ideal(event)
        value = error = wrong = None
        if ideal is not None and len(next(iter(event.counts))) == ideal.width:
            value, error, hits = ideal.fidelity(event.counts, event.shots)
            if len(ideal.terms) < ideal.outcomes:
                wrong = event.shots - hits
        else:
            self._output.counters["no_ideal",] += 1
        age = None if event.calibrated_at is None else at - event.calibrated_at.timestamp()
        self._output.counters[_CALIBRATED[_freshness(age)]] += 1
        observation = Observation(
            offset,
            at,
            event.run_id,
            event.calibration_id,
            value,
            error,
            event.queue_seconds,
            event.execution_seconds,
            wrong,
            event.shots,
            (event.release or CANARY) if event.canary else None,
            None if value is None or event.canary else packed(event.counts),
        )
        if event.replay_of is None:  # a replay that is wrong says nothing of what is in production
            self._output.observe(self._keys[event.workload, event.backend], observation)
        self._count(event, at, offset)
        return observation

    def _count(self, event: events.Result, at: float, offset: int) -> None:
        """Hand on the counts of what is a replay, or may be replayed, to where the two meet."""
        original = event.replay_of
        if original is None and not self._replays.chosen(event.run_id, self._most_replayed):
            return
        outcomes = packed(event.counts)
        if outcomes is not None:
            workload = self._catalog.workload(event.workload)
            counted = Counted(offset, at, event.run_id, workload, original, outcomes)
            # By workload, as the alert is: one partition sees all of its replays.
            self._output.pack(f"replays of {workload}").counted.append(counted)

    def _key(self, named: tuple[str, str | None]) -> str:
        workload, backend = named
        return stream_key(self._catalog.workload(workload), self._catalog.backend(backend))

    def _ideal(self, event: events.Result) -> Ideal | None:
        if event.ideal is None:
            return self._catalog.ideals.get(event.ideal_id or "")
        try:
            return Ideal(event.ideal)
        except ValueError:
            return None


def add(event: events.Result, run: Run, observation: Observation, value: bytes, shared: Shared) -> None:
    """Add a result to its run.

    Parameters
    ----------
    event, value
        The result, and the bytes it came as.
    run
        Its run.
    observation
        What was made of the result.
    shared
        What runs have in common.
    """
    digest = sha256(value).digest()
    results = run.results
    if results is None:
        calibrated_at = None if event.calibrated_at is None else event.calibrated_at.timestamp()
        origin = Origin(event.provider, event.backend, event.calibration_id, calibrated_at, event.environment_digest)
        results = run.results = Results(digest, shared.value(origin))
        run.present |= mask(
            _GIVEN_ONCE, (event.calibration_id, event.calibrated_at, event.environment_digest, True, True)
        )
    else:
        total = int.from_bytes(results.digest, "big") + int.from_bytes(digest, "big")
        results.digest = (total % _DIGEST_MODULUS).to_bytes(32, "big")
    results.shots += event.shots
    if observation.fidelity is not None and observation.standard_error is not None:
        results.fidelity_n += 1
        results.fidelity_sum += observation.fidelity
        results.error_sum += observation.standard_error * observation.standard_error
        run.present |= _FIDELITY
    if event.provenance:  # an empty one signs nothing
        results.signed = True
        run.present |= _SIGNATURE
    if event.not_given:
        known = {name: text for name, text in event.not_given.items() if name in BITS}
        results.not_given = {**(results.not_given or {}), **known}
