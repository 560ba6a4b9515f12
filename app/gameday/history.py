"""Three healthy days before a game day: without them, windows of hours and days would know minutes.

A burn rate over three days that sees the last quarter of an hour alone takes eight bad seconds for half a percent.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.errors import EnvironmentFault
from app.gameday.servers import executable
from app.rules.files import Slos
from app.rules.slo import Slo

_DAYS: Final = 3.0
_STEP_SECONDS: Final = 60
_SECONDS: Final = 120.0


def backfill(slos: Slos, per_second: float, until: float, directory: Path) -> None:
    """Write the counters of objectives for days in which nothing was bad, as blocks of Prometheus.

    Parameters
    ----------
    slos
        The objectives.
    per_second
        How many valid events each counts a second.
    until
        The end, in seconds since the epoch.
    directory
        The data directory of a Prometheus that does not run yet.

    Raises
    ------
    EnvironmentFault
        If `promtool` is not there, or does not take it.
    """
    text = directory.parent / "history.txt"
    with text.open("w") as out:
        for each in slos.slos:
            out.writelines(_family(each, per_second, until))
        out.write("# EOF\n")
    arguments = ["tsdb", "create-blocks-from", "openmetrics", str(text), str(directory)]
    done = subprocess.run(
        [executable("promtool", "prometheus"), *arguments],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    text.unlink()
    if done.returncode:
        raise EnvironmentFault(
            f"promtool takes no history: {done.stderr.strip()[-300:]}", "install Prometheus 2.40 or later"
        )


def _family(each: Slo, per_second: float, until: float) -> Iterator[str]:
    """The series of an objective: valid events, and the good or bad ones among them."""
    objective = each.objective
    good = objective.good
    series = [(objective.valid, per_second)]
    if good is not None:
        # The good ones may be a part of the valid ones: they are all of them then.
        series = [(good, per_second)] if good.split("{")[0] == objective.valid else [*series, (good, per_second)]
    elif objective.bad is not None:
        series.append((objective.bad, 0.0))
    begin = until - _DAYS * 86_400
    for selector, rate in series:
        name, _, labels = selector.partition("{")
        inside = labels.rstrip("}")
        yield f"# TYPE {name} unknown\n"
        of = f'{name}{{{inside + "," if inside else ""}job="history"}}'
        for number in range(int(_DAYS * 86_400 / _STEP_SECONDS)):
            yield f"{of} {rate * number * _STEP_SECONDS:.0f} {begin + number * _STEP_SECONDS:.0f}\n"
