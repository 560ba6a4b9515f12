"""Runs sent to endpoints that they may not go to: one alert and one order an endpoint, however many runs (F3).

The order is `disable_routing` of that endpoint. It holds for an hour and is given again with every refresh of the
alert; when the alert ends, it is lifted.
"""

from datetime import datetime
from typing import Final

from app.conventions import DISABLE_ROUTING
from app.core.catalog import OTHER, UNKNOWN
from app.core.conditions import Conditions
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert, Directive, Lifted, Unauthorized

_ORDER_SECONDS: Final = 3_600.0
#: What names no endpoint, and so none to disable: a place that many share, and a routing that said none.
_NO_ENDPOINT: Final = frozenset({OTHER, UNKNOWN})


def say(
    routings: Conditions, found: Unauthorized, source: tuple[str, int], at: float, watched: float
) -> tuple[Alert, Directive | None] | None:
    """Take in an unauthorized routing; what is to be said of it, if anything is.

    Parameters
    ----------
    routings
        The endpoints that have an alert.
    found, source
        The routing, and the topic and partition it came from.
    at, watched
        Now: in seconds since the epoch, by the log's clock and not by that of a producer, which may be hours off, so
        that the order would have ended before it is given; and in seconds watched.
    """
    endpoint = routings.place(found.endpoint)
    text = f"runs are sent to {endpoint}, where they may not go: {found.reason}"
    alert = routings.take(
        endpoint,
        {"provider": found.provider, "endpoint": endpoint},
        text,
        severity="page",
        position=(*source, found.offset),
        at=at,
        watched=watched,
        run_ids=(found.run_id,),
    )
    return None if alert is None else (alert, disabling(endpoint, alert))


def disabling(endpoint: str, alert: Alert) -> Directive | None:
    """The order that goes with an alert of an endpoint, each time that it is said."""
    if endpoint in _NO_ENDPOINT:
        return None
    return Directive(
        directive_id=outcome_id("directive", DISABLE_ROUTING, endpoint, alert.alert_id),
        directive=DISABLE_ROUTING,
        target=endpoint,
        reason=alert.summary,
        issued_at=alert.at,
        expires_at=instant(datetime.fromisoformat(alert.at).timestamp() + _ORDER_SECONDS),
    )


def lifted(endpoint: str) -> list[Lifted]:
    """What ends with the alert of an endpoint."""
    return [] if endpoint in _NO_ENDPOINT else [Lifted(DISABLE_ROUTING, endpoint)]
