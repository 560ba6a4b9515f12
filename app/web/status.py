"""The status of one worker as one value: what the status page, `/status.json` and the demo's summary show."""

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from app.core.runs import RunStage
from app.core.sli import SLIS
from app.core.streams import StreamStage
from app.sinks.metrics import selected
from app.stream.shell import Shell


def status(
    shell: Shell,
    lag: Mapping[tuple[str, int], int],
    build: Mapping[str, str],
    complaints: Sequence[str] = (),
    *,
    sealed: bool = False,
) -> dict[str, Any]:
    """Totals of what this worker holds.

    Parameters
    ----------
    shell
        Whose units are summed up.
    lag
        Records of each (topic, partition) that wait.
    build
        What identifies this build.
    complaints
        What is wrong with the topics, in words.
    sealed
        Whether control records have to be sealed with a key.
    """
    units = list(shell.units.values())
    runs = [unit.stage for unit in units if isinstance(unit.stage, RunStage)]
    streams = [unit.stage for unit in units if isinstance(unit.stage, StreamStage)]
    stages: list[RunStage | StreamStage] = [*runs, *streams]

    def total(*prefix: str) -> int:
        return sum(sum(selected(stage.counters, prefix).values()) for stage in stages)

    return {
        "events_applied": total("applied"),
        "duplicates": total("duplicate"),
        "dead_letters": total("rejected"),
        "late": total("late"),
        "lag": sum(lag.values()),
        "results_applied": total("applied", "results"),
        "observations": total("observed", "fidelity") + total("no_ideal"),
        "open_runs": sum(len(stage.runs) for stage in runs),
        "event_to_metric_seconds": {"p50": shell.ages.quantile(0.5), "p99": shell.ages.quantile(0.99)},
        "sli": {sli.id: _sli(sli.id, sli.no_source, total, streams) for sli in SLIS},
        "violations": total("violation"),
        "drift_alerts": total("drift"),
        "events_lost": total("lost"),
        "fidelity": _fidelity(streams),
        "last_checkpoint_seconds_ago": max((time.time() - unit.checkpointed_at for unit in units), default=None),
        "records_deleted_unread": shell.losses.deleted.total(),
        "logs_began_anew": shell.losses.began_anew.total(),
        "records_set_aside": shell.losses.set_aside.total(),
        "complaints": list(complaints),
        "partitions": sorted({unit.partition for unit in units}),
        "control_records_sealed": sealed,
        "ready": shell.ready,
        "restored_seconds": shell.restored_seconds,
        "build": {**build, "policy_revision": ", ".join(sorted({stage.policy.revision for stage in runs}))},
    }


def detectors(shell: Shell) -> list[dict[str, Any]]:
    """The state of every detector: where each stream is, what fires, and all of it as it goes into checkpoints."""
    units = list(shell.units.values())
    return [
        {
            "partition": unit.partition,
            "lanes": [
                {
                    **watch.labels(lane),
                    "observations": place.seen,
                    "mean_gap_seconds": place.mean_gap_seconds,
                    "calibration": place.epoch.calibration,
                    "calibration_before": place.epoch.before,
                    "firing": firing.alert_id if (firing := watch.firing.get(lane)) is not None else None,
                }
                for watch in unit.stage.drift.watches
                for lane, place in watch.places.items()
            ],
            "snapshot": [b64encode(part).decode() for part in unit.stage.drift.snapshot()],
        }
        for unit in units
        if isinstance(unit.stage, StreamStage)
    ]


def _sli(sli: str, no_source: str | None, total: Any, streams: list[StreamStage]) -> dict[str, Any]:
    if no_source is not None:
        return {"good": None, "valid": None, "ratio": None, "reason": no_source}
    if sli == "M9":
        hours = [figures for stage in streams for figures in stage.budget_hours().values()]
        valid, good = sum(hour for hour, _ in hours), sum(within for _, within in hours)
    else:
        valid = total("valid", sli)
        good = valid - total("bad", sli)
    if not valid:
        return {"good": 0, "valid": 0, "ratio": None, "reason": "nothing to judge yet"}
    return {"good": good, "valid": valid, "ratio": good / valid}


def _fidelity(streams: list[StreamStage]) -> list[dict[str, Any]]:
    rows = [
        {
            "workload": stream.workload,
            "backend": stream.backend,
            "n": stream.total.n,
            "mean": stream.total.mean,
            "standard_error": stream.total.standard_error,
        }
        for stage in streams
        for stream in stage.streams.values()
        if stream.total.n
    ]
    return sorted(rows, key=lambda row: (str(row["workload"]), str(row["backend"])))
