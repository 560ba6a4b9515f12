"""The policy of one partition: which is in force, how another one takes its place, and which exemptions hold.

A bundle comes in the log of the jobs, as a record of our own. So which policy judges an event is a function of the log,
on whatever worker and however often it is read; and of the keys that are trusted and what was revoked, as the worker's
settings have them. What is revoked judges nothing from the moment that a worker knows it.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from app.conventions import EXEMPTION_ALERT, JOBS, POLICY_REFUSED_ALERT
from app.core.decode import Reason
from app.core.drift_alert import condition
from app.core.evaluating import PolicyError
from app.core.evidence import instant
from app.core.exemptions import Exemption
from app.core.facts import Facts
from app.core.identity import bucket, outcome_id
from app.core.outcomes import Alert, Budget
from app.core.output import Output
from app.core.policy import NONE, Policies, Policy, Verdict
from app.core.records import Record

_QUIET_SECONDS: Final = 900.0
_ENDED: Final = "the rule is enforced again"


class State(Struct, array_like=True):
    """What is kept of it."""

    bundle: bytes = b""
    #: Since when a bundle that was refused is the last that came, seconds since the epoch.
    refused_at: float | None = None
    #: The exemptions whose alert is firing.
    reported: dict[str, Exemption] = field(default_factory=dict)
    #: The latest that the log of the jobs has reached: what expired does not come back with a clock that goes back.
    latest: float = 0.0


class InForce:
    """What a partition is judged by.

    Parameters
    ----------
    policies
        Where policies come from.
    output
        Where what is to be said goes.
    partitions
        How many there are: each exemption is reported by one of them.
    clock
        What the log of the jobs has reached, seconds since the epoch; 0 before the first heartbeat. One log, because
        how several are interleaved must not decide what is exempted.
    """

    def __init__(self, policies: Policies, output: Output, partitions: int, clock: Callable[[], float]) -> None:
        self._policy: Policy = policies.current
        self._policies = policies
        self._output = output
        self._partitions = partitions
        self._clock = clock
        self._refused_at: float | None = None
        self._reported: dict[str, Exemption] = {}
        self._latest = 0.0

    @property
    def policy(self) -> Policy:
        """What judges: what was put in force last, or what denies everything if that was revoked."""
        return self._policy if self._policy.revoked is None else NONE

    def judge(self, asked: Facts) -> Verdict:
        """The verdict, with the exemptions that hold now."""
        return self.policy.exempted(self.policy.judge(asked), asked.declared, asked.routing, self.now)

    @property
    def now(self) -> float:
        """What exemptions go by, and what decision records are dated with; seconds since the epoch."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    def put(self, record: Record, bundle: bytes) -> None:
        """Put a bundle in force; one that cannot be trusted, used or is older changes nothing, and that is said."""
        at = record.timestamp / 1000
        try:
            policy = self._policies.load(bundle)
            if policy.digest != self.policy.digest:  # every worker that sees it is not in force yet says it again
                policy.check_version(at)
                policy.follows(self.policy)
        except PolicyError as error:
            self._output.reject(record, Reason.POLICY_REFUSED, str(error))
            self._output.counters["policy", "refused"] += 1
            first, self._refused_at = self._refused_at is None, at
            if first:
                self._say_refused("firing", at, f"a policy bundle in the log was refused: {error}")
            return
        if policy.digest != self.policy.digest:
            self._hand_on_budgets(policy, record)
            self._policy = policy
            self._output.counters["policy", "activated"] += 1
        self._settle(at, f"bundle {policy.pack.version} is in force")

    def _hand_on_budgets(self, policy: Policy, record: Record) -> None:
        """Tell the streams what each cost center may spend from here on: a freeze ends when a budget is raised."""
        before, budgets = self.policy.standards.budgets, policy.standards.budgets
        for center in sorted(before | budgets):
            told = Budget(record.offset, center, budgets.get(center))
            self._output.pack(center).budgets.append(told)

    def _settle(self, at: float, text: str) -> None:
        if self._refused_at is not None:
            self._refused_at = None
            self._say_refused("resolved", at, text)

    def tick(self) -> None:
        """Say which exemptions hold, which have come to their end, and that no bundle was refused for a while."""
        now = self.now
        if self._refused_at is not None and now - self._refused_at >= _QUIET_SECONDS:
            self._settle(now, f"no bundle was refused for {_QUIET_SECONDS / 60:g} minutes")
        holding = {exemption.id: exemption for exemption in self.policy.pack.exemptions if exemption.holds(now)}
        for name, exemption in holding.items():
            if name not in self._reported and bucket(name, self._partitions) == self._output.batch.partition:
                self._reported[name] = exemption
                self._say_exemption(exemption, "firing", now, f"until {instant(exemption.expires.timestamp())}")
        for name, exemption in list(self._reported.items()):
            if holding.get(name) != exemption:
                del self._reported[name]
                why = "expired" if now >= exemption.expires.timestamp() else "was withdrawn or changed"
                self._say_exemption(exemption, "resolved", now, f"{why}; {_ENDED}")

    def _say_refused(self, status: str, at: float, text: str) -> None:
        labels = {"source": f"{JOBS}/{self._output.batch.partition}"}
        self._output.outcomes.alerts.append(refused(labels, status, at, text))

    def _say_exemption(self, exemption: Exemption, status: str, at: float, text: str) -> None:
        labels = {"exemption": exemption.id, "rule": exemption.rule, "owner": exemption.owner}
        granted = instant(exemption.granted.timestamp())
        self._output.outcomes.alerts.append(
            Alert(
                alert_id=outcome_id("alert", EXEMPTION_ALERT, exemption.id, granted, status, text),
                fingerprint=condition(EXEMPTION_ALERT, labels),
                name=EXEMPTION_ALERT,
                severity="info",
                status=status,
                at=instant(at),
                labels=labels,
                summary=f"exemption {exemption.id} from {exemption.rule}: {text}",
                figures={},
                notes={"reason": exemption.reason, "approved_by": exemption.approved_by} | {**exemption.scope},
            )
        )

    def snapshot(self) -> State:
        """The state."""
        return State(self.policy.bundle, self._refused_at, self._reported, self._latest)

    def restore(self, state: State) -> None:
        """Continue from a state."""
        self._policy = self._policies.restore(state.bundle)
        self._refused_at, self._reported, self._latest = state.refused_at, state.reported, state.latest


def refused(labels: dict[str, str], status: str, at: float, text: str) -> Alert:
    """The alert that a policy bundle was refused, or the end of it; `labels` say where the bundle came from."""
    return Alert(
        alert_id=outcome_id("alert", POLICY_REFUSED_ALERT, *labels.values(), status, f"{at:.3f}"),
        fingerprint=condition(POLICY_REFUSED_ALERT, labels),
        name=POLICY_REFUSED_ALERT,
        severity="page",
        status=status,
        at=instant(at),
        labels=labels,
        summary=text,
        figures={},
    )
