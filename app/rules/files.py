"""Objectives as people write them: our own `slos.yaml`, or OpenSLO v1."""

from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from msgspec import Struct

from app import documents
from app.rules.slo import Objective, Slo, slo


class SloFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file `slos.yaml`."""

    #: Where runbooks are read: an alert's name is appended.
    runbooks: str
    slos: dict[str, Objective]


class Slos(Struct, frozen=True):
    """All objectives, and where their runbooks are read."""

    runbooks: str
    slos: tuple[Slo, ...]


def load(path: Path, runbooks: str | None = None) -> Slos:
    """Read objectives.

    Parameters
    ----------
    path
        `slos.yaml`, or a file of OpenSLO v1 documents (https://github.com/openslo/openslo).
    runbooks
        Where runbooks are read, for OpenSLO files, which do not say.

    Raises
    ------
    SettingError
        If the file cannot be read, says something that cannot be measured, or an alert of it could never fire.
    """
    if _is_openslo(path):
        return Slos(runbooks or RUNBOOKS, tuple(slo(name, found) for name, found in _openslo(path).items()))
    found = documents.read(path, SloFile)
    return Slos(found.runbooks.rstrip("/"), tuple(slo(name, objective) for name, objective in found.slos.items()))


#: The runbooks that the pager serves.
RUNBOOKS: Final = "http://127.0.0.1:6068/runbooks"
_API: Final = "openslo/v1"
#: What an OpenSLO file may hold beside SLOs and SLIs; who is notified and how is Alertmanager's.
_SET_ASIDE: Final = frozenset({"DataSource", "Service", "AlertPolicy", "AlertCondition", "AlertNotificationTarget"})
#: Annotations of an SLO that say what OpenSLO has no field for.
_ANNOTATION: Final = "qethics.io/"
#: Before a long window: the share of the budget that it may burn.
_BUDGET: Final = "budget-"


def _is_openslo(path: Path) -> bool:
    try:
        return any(line.split("#")[0].strip() == f"apiVersion: {_API}" for line in path.read_text().splitlines())
    except (OSError, UnicodeDecodeError):
        return False  # what is wrong with it is said when it is read


def _openslo(path: Path) -> dict[str, Objective]:
    try:
        text = path.read_text()
        if len(text) > documents.MOST_BYTES:
            raise documents.unusable(path, "", f"more than {documents.MOST_BYTES} characters")
        found: list[Any] = [each for each in yaml.safe_load_all(text) if each is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise documents.unusable(path, "", " ".join(str(error).split())[:200]) from error
    indicators, objectives = _sorted(path, found)
    made = {}
    for each in objectives:
        name = _name(path, each)
        try:
            made[name.replace("-", "_")] = _objective(each, indicators)
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise documents.unusable(path, f"SLO {name}", why) from error
    if not made:
        raise documents.unusable(path, "", "there is no SLO in it")
    return made


def _sorted(path: Path, found: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """SLIs by name, and SLOs."""
    indicators: dict[str, Any] = {}
    objectives: list[Any] = []
    for number, each in enumerate(found):
        kind = each.get("kind") if isinstance(each, dict) and each.get("apiVersion") == _API else None
        if kind == "SLI":
            indicators[_name(path, each)] = each.get("spec")
        elif kind == "SLO":
            objectives.append(each)
        elif kind not in _SET_ASIDE:
            raise documents.unusable(path, f"document {number + 1}", f"it is no kind of {_API} that is known")
    return indicators, objectives


def _name(path: Path, document: dict[str, Any]) -> str:
    name = (document.get("metadata") or {}).get("name")
    if not isinstance(name, str):
        raise documents.unusable(path, "metadata.name", "it is missing")
    return name


def _objective(document: dict[str, Any], indicators: dict[str, Any]) -> Objective:
    spec, metadata = document["spec"], document["metadata"]
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise ValueError("budgetingMethod: only Occurrences is built; count events, not time slices")
    (window,) = spec["timeWindow"] if len(spec["timeWindow"]) == 1 else (None,)
    if window is None or window.get("isRolling") is not True:
        raise ValueError("timeWindow: there must be one, and isRolling; calendar windows are not built")
    if len(spec["objectives"]) != 1:
        raise ValueError("objectives: there must be one; write an SLO for each")
    (target,) = spec["objectives"]
    ratio = target["target"] if "target" in target else target["targetPercent"] / 100
    indicator = spec["indicator"]["spec"] if "indicator" in spec else indicators[spec["indicatorRef"]]
    measured = indicator["ratioMetric"]
    if measured.get("counter") is not True:
        raise ValueError("ratioMetric.counter: it must be true; ratios of gauges are not built")
    notes = {
        key.removeprefix(_ANNOTATION): value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_ANNOTATION)
    }
    return msgspec.convert(
        {
            "objective": ratio,
            "owner": notes.get("owner", spec.get("service", "unknown")),
            "summary": spec.get("description") or metadata.get("displayName") or metadata["name"],
            "valid": _query(measured["total"]),
            "good": _query(measured["good"]) if "good" in measured else None,
            "bad": _query(measured["bad"]) if "bad" in measured else None,
            "period": window["duration"],
            "least_events": int(notes.get("least-events", 100)),
            "silence": notes.get("silence"),
            "budgets": {
                key.removeprefix(_BUDGET): float(value) for key, value in notes.items() if key.startswith(_BUDGET)
            },
        },
        Objective,
    )


def _query(source: dict[str, Any]) -> str:
    metric = source["metricSource"]
    if str(metric.get("type", "Prometheus")).lower() != "prometheus":
        raise ValueError(f"metricSource.type: {metric['type']!r} is not Prometheus")
    query = metric["spec"]["query"]
    if not isinstance(query, str):
        raise TypeError("metricSource.spec.query: it must be a counter")
    return query.strip()
