"""Whether the dashboards show anything: every query of every panel, asked of a real Prometheus."""

import json
import math
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.catalog import DEFAULT_DIRECTORY

DASHBOARDS: Final = DEFAULT_DIRECTORY.parent / "grafana" / "dashboards"
_SECONDS: Final = 10.0
_STEP_SECONDS: Final = 15


class Query(NamedTuple):
    """A query of a panel, as Grafana would send it."""

    dashboard: str
    panel: str
    ref: str
    expression: str


def queries(directory: Path = DASHBOARDS, *, spanned: str = "1h") -> Iterator[Query]:
    """Every PromQL query of the dashboards, with its variables filled in.

    Parameters
    ----------
    directory
        Where the dashboards are.
    spanned
        What `$__range` is, as a duration of PromQL.
    """
    for path in sorted(directory.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                if (expression := target.get("expr")) is not None:
                    yield Query(path.stem, panel["title"], target["refId"], filled(expression, spanned))


def filled(expression: str, spanned: str = "1h") -> str:
    """A query with its variables filled in: our processes, and `spanned`, a duration of PromQL, as the range shown."""
    # The history that a game day puts into Prometheus beforehand is of a job of its own, and no data of a panel.
    values = {"$__rate_interval": "1m", "$__range": spanned, "$job": "qethics.*", "$instance": ".+"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


def without_data(url: str, began: float, until: float) -> list[dict[str, str]]:
    """The queries for which a Prometheus has no finite figure between two instants, in seconds since the epoch.

    Raises
    ------
    OSError
        If it does not answer, or refuses a query.
    """
    spanned = f"{max(60, round(until - began))}s"
    found = queries(spanned=spanned)
    return [query._asdict() for query in found if not _has_data(url, query.expression, began, until)]


def _has_data(url: str, expression: str, began: float, until: float) -> bool:
    asked = {"query": expression, "start": began, "end": until, "step": _STEP_SECONDS}
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{urllib.parse.urlencode(asked)}", timeout=_SECONDS) as said:
        result: list[dict[str, Any]] = json.load(said)["data"]["result"]
    return any(math.isfinite(float(value)) for series in result for _, value in series["values"])
