"""Hourly budgets that are spent: an alert and the order `freeze_offload` for the cost center, until the hour ends."""

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

    def take(
        self, center: str, hour: int, spent_usd: float, budget_usd: float, at: float
    ) -> tuple[Alert, Directive] | None:
        """Take in what a cost center has spent in an hour; what is to be said of it, if anything is.

        Parameters
        ----------
        center, hour, spent_usd, budget_usd
            What was spent, of what.
        at
            What the log has reached, seconds since the epoch: only in the hour that it is now something can be frozen.
        """
        begin, end = hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS
        if spent_usd <= budget_usd or self.hours.get(center) == hour or not begin <= at < end:
            return None
        self.hours[center] = hour
        text = f"{center} has spent the {budget_usd:g} dollars of its hour; no quantum computer until {instant(end)}"
        figures = {"spent_usd": spent_usd, "budget_usd": budget_usd}
        order = Directive(
            directive_id=outcome_id("directive", FREEZE_OFFLOAD, center, hour, f"{at:.3f}"),
            directive=FREEZE_OFFLOAD,
            target=center,
            reason=text,
            issued_at=instant(at),
            expires_at=instant(end),
        )
        return _alert(center, hour, "firing", at, text, figures), order

    def ended(self, at: float, is_within: Callable[[str, int], bool]) -> Iterator[tuple[Alert, Lifted]]:
        """The end of alerts and orders whose hour is over, or within its budget again.

        Parameters
        ----------
        at
            What the log has reached, seconds since the epoch.
        is_within
            Whether a cost center is within the budget of an hour: charges are corrected, and budgets raised.
        """
        for center, hour in sorted(self.hours.items()):
            is_over = (hour + 1) * HOUR_SECONDS <= at
            if is_over or is_within(center, hour):
                del self.hours[center]
                text = f"{center} has a new hour, and its budget" if is_over else f"{center} is within its budget again"
                yield _alert(center, hour, "resolved", at, text, {}), Lifted(FREEZE_OFFLOAD, center)


def _alert(center: str, hour: int, status: str, at: float, text: str, figures: dict[str, float]) -> Alert:
    labels = {"cost_center": center}
    return Alert(
        alert_id=outcome_id("alert", BUDGET_ALERT, center, hour, status, f"{at:.3f}"),
        fingerprint=condition(BUDGET_ALERT, labels),
        name=BUDGET_ALERT,
        severity="ticket",
        status=status,
        at=instant(at),
        labels=labels,
        summary=text,
        figures=figures,
    )
