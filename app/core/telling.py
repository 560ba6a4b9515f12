"""What one Alertmanager is told of what fires, so that nothing that fired is over before somebody was told. Pure.

An Alertmanager notifies of an alert that it sees firing when it next looks at the alert's group (`group_wait` after the
group's first, else every `group_interval`); one that it sees resolved first is never told to anybody
(`notify.DedupStage.needsUpdate`). So an alert that has ended is said to fire until an Alertmanager has had it, without
a break, for longer than that; then that it is over, and when it was. Times are in seconds since the epoch.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Final

from msgspec import Struct, structs

from app.core.evidence import instant
from app.core.paging import KNOWN_SECONDS, ORDER, RESEND_SECONDS, UNTOLD_SECONDS, Lease

#: So long it is said again that something is over: whoever lost its state meanwhile knows of it by its notifications.
RESOLVED_SECONDS: Final = 900.0
#: It is due so much before, for the time until somebody looks and until it is answered.
_AHEAD_SECONDS: Final = 5.0
#: What is not yet known to have been told is sent again so often: an Alertmanager that was started again in between has
#: forgotten it, and nothing may have failed.
_UNTOLD_RESEND_SECONDS: Final = 10.0


class Told(Struct, frozen=True, array_like=True):
    """The last time that an alert fired of which somebody was told: when that began, and ended if it is known."""

    starts_at: float
    ends_at: float | None = None

    def covers(self, lease: Lease) -> bool:
        """Whether it is that time, or a later one."""
        if self.starts_at >= lease.starts_at:
            return True
        if lease.ends_at is None:
            return False
        if self.ends_at is None:
            return lease.starts_at == lease.ends_at  # all that is known of it is its end
        return self.ends_at >= lease.ends_at


class _Sent(Struct, frozen=True):
    version: int
    fires: bool
    at: float


class Telling:
    """What one Alertmanager has taken, and what is to be sent to it.

    Parameters
    ----------
    told
        Fingerprint -> of what somebody was told. The Alertmanagers of a cluster have it in common: what one of them
        told need not be told by the others.
    hold_seconds
        Severity -> how long an Alertmanager must have had an alert to have told it: more than the `group_wait` and
        `group_interval` of its route. Others are told at once.
    """

    def __init__(self, told: MutableMapping[str, Told], hold_seconds: Mapping[str, float]) -> None:
        self._told = told
        self._hold_seconds = hold_seconds
        self._sent: dict[str, _Sent] = {}
        #: Fingerprint -> when what fires began, and since when it has it.
        self._since: dict[str, tuple[float, float]] = {}
        #: Fingerprint -> when what is over ended, and when it was first told so.
        self._over: dict[str, tuple[float, float]] = {}

    def due(self, leases: Iterable[Lease], now: float) -> list[Lease]:
        """What is to be sent now, as it is to be posted, pages first."""
        found = []
        for lease in leases:
            self._settle(lease, now)
            wanted = self._wanted(lease, now)
            if wanted is not None and self._is_due(wanted, now):
                found.append(wanted)
        return sorted(found, key=lambda each: (ORDER.get(each.labels["severity"], 2), each.starts_at))

    def taken(self, lease: Lease, sent_at: float, taken_at: float) -> None:
        """Put down that it took (or refused for good) what was due: when that was sent, and when it was answered."""
        name = lease.fingerprint
        self._sent[name] = _Sent(lease.version, lease.ends_at is None, sent_at)
        if lease.ends_at is None:
            self._over.pop(name, None)
            if name not in self._since or self._since[name][0] < lease.starts_at:
                self._since[name] = lease.starts_at, taken_at
            return
        self._since.pop(name, None)
        if name not in self._over or self._over[name][0] != lease.ends_at:
            self._over[name] = lease.ends_at, taken_at
        told = self._told.get(name)
        if told is None or told.starts_at <= lease.starts_at:
            self._told[name] = Told(lease.starts_at, lease.ends_at)

    def failed(self) -> None:
        """Put down that it could not be reached: it may have lost what it had, and what it has not told counts anew."""
        self._sent.clear()
        self._since.clear()

    def keep(self, leases: Iterable[Lease]) -> None:
        """Forget all but these."""
        known = {each.fingerprint for each in leases}
        self._sent = {name: each for name, each in self._sent.items() if name in known}
        self._since = {name: each for name, each in self._since.items() if name in known}
        self._over = {name: each for name, each in self._over.items() if name in known}

    def _settle(self, lease: Lease, now: float) -> None:
        """Put down that an alert was told, if it had it for so long."""
        if lease.fingerprint not in self._since:
            return
        starts_at, since = self._since[lease.fingerprint]
        has_had_it = now - since >= self._hold_seconds.get(lease.labels["severity"], 0.0)
        told = self._told.get(lease.fingerprint)
        if has_had_it and starts_at >= lease.starts_at and (told is None or told.starts_at < starts_at):
            self._told[lease.fingerprint] = Told(starts_at)

    def _is_told(self, lease: Lease) -> bool:
        told = self._told.get(lease.fingerprint)
        return told is not None and told.covers(lease)

    def _wanted(self, lease: Lease, now: float) -> Lease | None:
        """A lease as it is to be said; None if it is not."""
        name = lease.fingerprint
        if lease.ends_at is None:
            return self._with_history(lease)
        if self._is_told(lease):
            ends_at, first_at = self._over.get(name, (None, 0.0))
            said_before = ends_at == lease.ends_at
            until = first_at + RESOLVED_SECONDS if said_before else lease.ends_at + KNOWN_SECONDS
            return lease if now <= until else None
        if now - lease.ends_at > UNTOLD_SECONDS and name not in self._since:
            return None
        return structs.replace(self._with_history(lease), ends_at=None)

    def _with_history(self, lease: Lease) -> Lease:
        """A lease that says as well what nobody was told of until now."""
        if self._is_told(lease):
            return lease
        told = self._told.get(lease.fingerprint)
        untold = [at for at in lease.before if told is None or at > told.starts_at]
        said = []
        if lease.ends_at is not None:
            said.append(f"It was over at {instant(lease.ends_at)}, before it could be told.")
        if untold:
            said.append(f"It fired {len(untold) + 1} times since {instant(untold[0])}, of which nobody was told.")
        if not said:
            return lease
        described = "\n".join([lease.annotations["description"], *said])
        return structs.replace(lease, annotations={**lease.annotations, "description": described})

    def _is_due(self, wanted: Lease, now: float) -> bool:
        sent = self._sent.get(wanted.fingerprint)
        if sent is None or sent.version != wanted.version or sent.fires != (wanted.ends_at is None):
            return True
        is_told = wanted.ends_at is not None or self._is_told(wanted)
        return not 0 <= now - sent.at < (RESEND_SECONDS - _AHEAD_SECONDS if is_told else _UNTOLD_RESEND_SECONDS)
