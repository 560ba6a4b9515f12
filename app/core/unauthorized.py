"""Runs sent to endpoints that they may not go to: one alert and one order an endpoint, however many runs (F3).

The order is `disable_routing` of that endpoint. It holds for an hour and is given again while such routings come; a
quarter of an hour without one is recovery: the alert is resolved and the order lifted.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct, field

from app.conventions import DISABLE_ROUTING, UNAUTHORIZED_ALERT
from app.core.catalog import UNKNOWN
from app.core.drift_alert import condition
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert, Directive, Lifted, Unauthorized

_ORDER_SECONDS: Final = 3_600.0
_AGAIN_SECONDS: Final = 1_800.0
_QUIET_SECONDS: Final = 900.0
#: Endpoints with an alert at once, at most: their names are the producers' own. Further ones share a place.
_KEPT: Final = 64
_OTHERS: Final = "other"
#: What names no endpoint, and so none to disable: a place that many share, and a routing that said none.
_NO_ENDPOINT: Final = frozenset({_OTHERS, UNKNOWN})
_RUNS: Final = 10


class Standing(Struct, array_like=True):
    """An endpoint that runs were sent to which may not go there."""

    alert_id: str
    provider: str
    #: When the order was last given (of events), and when a routing was last heard of, in seconds watched.
    ordered_at: float
    heard_at: float
    runs: int = 0
    run_ids: list[str] = field(default_factory=list)


class Routings(Struct, array_like=True):
    """The endpoints of one partition that have an alert."""

    standing: dict[str, Standing] = field(default_factory=dict)

    def take(
        self, found: Unauthorized, source: tuple[str, int], watched: float
    ) -> tuple[Alert, Directive | None] | None:
        """Take in an unauthorized routing; what is to be said of it, if anything is.

        Parameters
        ----------
        found, source
            The routing, and the topic and partition it came from.
        watched
            Now, in seconds watched.
        """
        endpoint = found.endpoint if found.endpoint in self.standing or len(self.standing) < _KEPT else _OTHERS
        one = self.standing.get(endpoint)
        if one is None:
            alert_id = outcome_id("alert", UNAUTHORIZED_ALERT, endpoint, *source, found.offset)
            one = self.standing[endpoint] = Standing(alert_id, found.provider, float("-inf"), watched)
        one.heard_at = watched
        if found.run_id not in one.run_ids:
            one.runs += 1
            one.run_ids = [*one.run_ids, found.run_id][-_RUNS:]
        if found.at - one.ordered_at < _AGAIN_SECONDS:
            return None
        one.ordered_at = found.at
        # The first says the condition, the later ones how far it has gone; each is a record of its own.
        alert_id = one.alert_id if one.runs == 1 else outcome_id("alert", one.alert_id, *source, found.offset)
        text = f"runs are sent to {endpoint}, where they may not go: {found.reason}"
        alert = _alert(endpoint, one, alert_id, "firing", found.at, text)
        if endpoint in _NO_ENDPOINT:
            return alert, None
        return alert, Directive(
            directive_id=outcome_id("directive", DISABLE_ROUTING, endpoint, *source, found.offset),
            directive=DISABLE_ROUTING,
            target=endpoint,
            reason=text,
            issued_at=instant(found.at),
            expires_at=instant(found.at + _ORDER_SECONDS),
        )

    def recovered(self, watched: float, at: float) -> Iterator[tuple[Alert, Lifted | None]]:
        """The end of alerts whose endpoint no such run was sent to for a quarter of an hour, and of their orders."""
        quiet = [name for name, one in self.standing.items() if watched - one.heard_at >= _QUIET_SECONDS]
        for name in quiet:
            one = self.standing.pop(name)
            text = f"no run was sent to {name} for {_QUIET_SECONDS / 60:g} minutes that may not go there"
            alert_id = outcome_id("alert", one.alert_id, "resolved")
            alert = _alert(name, one, alert_id, "resolved", at, text)
            yield alert, Lifted(DISABLE_ROUTING, name) if name not in _NO_ENDPOINT else None


def _alert(endpoint: str, one: Standing, alert_id: str, status: str, at: float, text: str) -> Alert:
    return Alert(
        alert_id=alert_id,
        fingerprint=condition(UNAUTHORIZED_ALERT, {"endpoint": endpoint}),
        name=UNAUTHORIZED_ALERT,
        severity="page",
        status=status,
        at=instant(at),
        labels={"provider": one.provider, "endpoint": endpoint},
        summary=text,
        figures={"runs": float(one.runs)},
        run_ids=tuple(one.run_ids),
    )
