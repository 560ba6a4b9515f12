"""Hourly budgets that are spent: an alert and the order `freeze_offload` for the cost center, until the hour ends.

Of an hour that is over when its bill comes nothing can be frozen any more; that it was exceeded is said all the same.
"""

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct, field

from app.conventions import BUDGET_ALERT, FREEZE_OFFLOAD
from app.core.drift_alert import condition
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.outcomes import Alert, Directive, Lifted

HOUR_SECONDS: Final = 3600.0


class Spent(Struct, array_like=True):
    """The cost centers of one partition whose budget is spent, with the hour it is of (since the epoch)."""

    hours: dict[str, int] = field(default_factory=dict)
    #: Hours that were exceeded and said to be; those that can change no more count as within it, and go.
    said: dict[str, list[int]] = field(default_factory=dict)
    #: Cost center -> the hour that was over when it was found to be exceeded, and until when that is said.
    late: dict[str, tuple[int, float]] = field(default_factory=dict)

    def take(
        self, center: str, hour: int, spent_usd: float, budget_usd: float, at: float, quiet_seconds: float
    ) -> tuple[Alert, Directive | None] | None:
        """Take in what a cost center has spent in an hour; what is to be said of it, if anything is.

        Parameters
        ----------
        center, hour, spent_usd, budget_usd
            What was spent, of what.
        at
            What the log has reached, seconds since the epoch: only in the hour that it is now something can be frozen.
        quiet_seconds
            For so long it is said that an hour was exceeded that is over.
        """
        begin, end = hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS
        if spent_usd <= budget_usd or at < begin or hour in self.said.get(center, ()):
            return None
        self.said.setdefault(center, []).append(hour)
        figures = {"spent_usd": spent_usd, "budget_usd": budget_usd}
        if at >= end:
            self.late[center] = hour, at + quiet_seconds
            text = (
                f"{center} spent {spent_usd:.4g} of the {budget_usd:g} dollars of the hour that ended at {instant(end)}"
            )
            return _alert(_late(center), hour, "firing", at, f"{text}; it was billed late", figures), None
        self.hours[center] = hour
        text = f"{center} has spent the {budget_usd:g} dollars of its hour; no quantum computer until {instant(end)}"
        order = Directive(
            directive_id=outcome_id("directive", FREEZE_OFFLOAD, center, hour, f"{at:.3f}"),
            directive=FREEZE_OFFLOAD,
            target=center,
            reason=text,
            issued_at=instant(at),
            expires_at=instant(end),
        )
        return _alert({"cost_center": center}, hour, "firing", at, text, figures), order

    def ended(self, at: float, is_within: Callable[[str, int], bool]) -> Iterator[tuple[Alert, Lifted | None]]:
        """The end of alerts and orders whose hour is over, or within its budget again.

        Parameters
        ----------
        at
            What the log has reached, seconds since the epoch.
        is_within
            Whether a cost center is within the budget of an hour: charges are corrected, and budgets raised.
        """
        for center, hour in sorted(self.hours.items()):
            is_over, within = (hour + 1) * HOUR_SECONDS <= at, is_within(center, hour)
            if is_over or within:
                del self.hours[center]
                text = f"{center} is within its budget again" if within else f"{center} has a new hour, and its budget"
                yield (
                    _alert({"cost_center": center}, hour, "resolved", at, text, {}),
                    Lifted(FREEZE_OFFLOAD, center),
                )
        for center, (hour, until) in sorted(self.late.items()):
            within = is_within(center, hour)
            if until <= at or within:
                del self.late[center]
                text = (
                    f"{center} was within its budget after all" if within else "nothing can be done about it any more"
                )
                yield _alert(_late(center), hour, "resolved", at, text, {}), None
        for center, hours in list(self.said.items()):
            kept = [hour for hour in hours if not is_within(center, hour)]
            if len(kept) < len(hours):
                self.said[center] = kept  # should it be exceeded again, that is said again


def _late(center: str) -> dict[str, str]:
    return {"cost_center": center, "billed": "late"}


def _alert(labels: dict[str, str], hour: int, status: str, at: float, text: str, figures: dict[str, float]) -> Alert:
    return Alert(
        alert_id=outcome_id("alert", BUDGET_ALERT, *labels.values(), hour, status, f"{at:.3f}"),
        fingerprint=condition(BUDGET_ALERT, labels),
        name=BUDGET_ALERT,
        severity="ticket",
        status=status,
        at=instant(at),
        labels=labels,
        summary=text,
        figures=figures,
    )
