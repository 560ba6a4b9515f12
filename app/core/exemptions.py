"""Exemptions: a rule that is broken with leave, for a while. They are part of a bundle, so of what is signed."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

MOST_DAYS: Final = 90

#: The facts that say whom an exemption is for.
Fact = Literal[
    "run.workload",
    "run.purpose",
    "run.tier",
    "run.sensitivity",
    "run.submitter",
    "run.cost_center",
    "run.feature",
    "routing.provider",
    "routing.endpoint",
    "routing.region",
    "routing.backend",
]
_Line = Annotated[str, Meta(min_length=1, max_length=1000)]
_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Instant = Annotated[datetime, Meta(tz=True)]


class Exemption(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leave to break a rule.

    Parameters
    ----------
    id, rule
        What it is called, and the rule it is from.
    scope
        Fact -> the value it must have; all of them must. An exemption for everybody is a change of the rule.
    owner, reason, approved_by
        Who answers for it, why it is given, and who gave it.
    granted, expires
        From when, and until when (exclusive), it holds.
    """

    id: _Name
    rule: _Name
    scope: Annotated[dict[Fact, _Name], Meta(min_length=1)]
    owner: _Name
    reason: _Line
    approved_by: _Name
    granted: _Instant
    expires: _Instant

    def holds(self, now: float) -> bool:
        """Whether it is in force at `now`, seconds since the epoch."""
        return self.granted.timestamp() <= now < self.expires.timestamp()

    def covers(self, run: object, routing: object) -> bool:
        """Whether it is for a run and routing; either may be None."""
        parts = {"run": run, "routing": routing}
        return all(
            getattr(parts[part], name, None) == value
            for (part, _, name), value in ((fact.partition("."), value) for fact, value in self.scope.items())
        )

    def wrong(self) -> tuple[str, str] | None:
        """The field that cannot be and why, if one cannot."""
        if self.expires <= self.granted:
            return "expires", "is not after `granted`"
        if self.expires - self.granted > timedelta(days=MOST_DAYS):
            return "expires", f"is more than {MOST_DAYS} days after `granted`"
        return None
