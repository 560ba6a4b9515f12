"""What goes on for a while and has one cause, however many runs it touches: one alert, its refreshes and its end.

A condition is said when it is first heard of, again every minute while there is more of it, with its count and its last
runs, and resolved when nothing was heard of it for the quiet time. A burst is said again when its minute is over, so
that the alert that stands has its whole count.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from app.core.catalog import OTHER
from app.core.drift_alert import condition
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert

AGAIN_SECONDS: Final = 60.0
#: Causes of one kind at once, at most: their names may be the producers' own. Further ones share a place.
KEPT: Final = 64
RUNS: Final = 10


class Condition(Struct, array_like=True):
    """One cause, while it goes on."""

    alert_id: str
    severity: str
    labels: dict[str, str]
    #: When it was last said and last heard of, in seconds watched.
    said_at: float
    heard_at: float
    #: When it began, in seconds since the epoch.
    began_at: float
    count: int = 0
    run_ids: list[str] = field(default_factory=list)
    #: What was said last: its text and notes, and how much there was of it then.
    text: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    said_count: int = 0


class Conditions(Struct, array_like=True):
    """The conditions of one name in one partition, by cause."""

    name: str
    #: What is counted: runs, events.
    unit: str = "runs"
    standing: dict[str, Condition] = field(default_factory=dict)

    def place(self, cause: str) -> str:
        """The cause itself, or `other` where there are too many."""
        return cause if cause in self.standing or len(self.standing) < KEPT else OTHER

    def take(
        self,
        cause: str,
        labels: Mapping[str, str],
        text: str,
        *,
        severity: str,
        position: tuple[object, ...],
        at: float,
        watched: float,
        count: int = 1,
        run_ids: Iterable[str] = (),
        notes: Mapping[str, str] | None = None,
    ) -> Alert | None:
        """Take in that a cause was heard of; the alert, if it is to be said (again).

        Parameters
        ----------
        cause
            A place of `place`.
        labels, text, severity, notes
            What the alert says; labels and severity are those of its first time, so that it stays one alert.
        position
            What names the record that it follows from: the id of the alert is made from it.
        at
            When, in seconds since the epoch.
        watched
            Now, in seconds watched.
        count
            How much more there is of it, where it is not runs that are counted.
        run_ids
            Runs that show it; one that is among the last ones counts once.
        """
        one = self.standing.get(cause)
        if one is None:
            alert_id = outcome_id("alert", self.name, cause, *position)
            one = self.standing[cause] = Condition(alert_id, severity, dict(labels), float("-inf"), watched, at)
        one.heard_at = watched
        fresh = [run_id for run_id in run_ids if run_id not in one.run_ids]
        one.count += len(fresh) if run_ids else count
        one.run_ids = [*one.run_ids, *fresh][-RUNS:]
        one.text, one.notes = text, dict(notes or {})
        if watched - one.said_at < AGAIN_SECONDS:
            return None
        # The first says the condition, the later ones how far it has gone; each is a record of its own.
        is_first = one.said_at == float("-inf")
        return self._said(one, one.alert_id if is_first else outcome_id("alert", one.alert_id, *position), at, watched)

    def more(self, watched: float, at: float) -> Iterator[tuple[str, Alert]]:
        """What is to be said again at a tick: each cause of which there is more than was said a minute ago."""
        for cause, one in self.standing.items():
            if one.count != one.said_count and watched - one.said_at >= AGAIN_SECONDS:
                yield cause, self._said(one, outcome_id("alert", one.alert_id, f"{at:.3f}"), at, watched)

    def quiet(
        self, watched: float, at: float, quiet_seconds: float, later: Callable[[str], float] = lambda cause: 0.0
    ) -> Iterator[tuple[str, Alert]]:
        """End the conditions that nothing was heard of for `quiet_seconds`: each cause with its last alert.

        Of a cause that is heard of late by its nature, it may be `later` seconds more.
        """
        for cause, one in list(self.standing.items()):
            seconds = quiet_seconds + later(cause)
            if watched - one.heard_at >= seconds:
                yield cause, self.end(cause, at, f"nothing more was heard of it for {seconds / 60:.4g} minutes")

    def end(self, cause: str, at: float, text: str) -> Alert:
        """End one condition, and say why."""
        one = self.standing.pop(cause)
        alert_id = outcome_id("alert", one.alert_id, "resolved")
        return self._alert(one, alert_id, "resolved", at, text, {"ended": text})

    def _said(self, one: Condition, alert_id: str, at: float, watched: float) -> Alert:
        one.said_at, one.said_count = watched, one.count
        return self._alert(one, alert_id, "firing", at, one.text, one.notes)

    def _alert(self, one: Condition, alert_id: str, status: str, at: float, text: str, notes: dict[str, str]) -> Alert:
        return Alert(
            alert_id=alert_id,
            fingerprint=condition(self.name, one.labels),
            name=self.name,
            severity=one.severity,
            status=status,
            at=instant(at),
            labels=one.labels,
            summary=text,
            figures={self.unit: float(one.count)},
            run_ids=tuple(one.run_ids),
            notes={"since": instant(one.began_at), **notes},
        )
