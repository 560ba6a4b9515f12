"""What every way in shares: how many requests at once, by when, by which policy, and that the answer is on record."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from app.core import admission
from app.core.admission import AdmissionRequest, AdmissionResponse, Asked, Decided
from app.core.evaluating import PolicyError
from app.core.outcomes import DecisionRecord, Directive
from app.core.policy import NONE, Policy
from app.core.trace import trace_id, traceparent
from app.policy.evaluator import Deferred

log = logging.getLogger("qethics.admission")

#: The share of the time for the decision; the rest is for its record.
_DECIDING_SHARE: Final = 0.75
#: Buckets of the histogram of answers, in seconds.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class Busy(Exception):
    """More requests are being answered than may be at once."""


class NotReady(Exception):
    """There is no verified policy yet, or the directives are not known yet; the text says which."""


class Gatekeeper:
    """Answers admission requests.

    Parameters
    ----------
    policy
        The policy in force, `NONE` before there is one.
    directives
        The directives in force.
    not_ready
        Why the directives are not known yet; None once they are.
    keep
        Puts a record where it cannot be lost; raises if that cannot be had.
    deadline_seconds
        By when a request is answered, in (0, 2].
    concurrency
        Requests that are answered at once, >= 1; those beyond are refused at once.
    traced
        Told of every decision: its record, the `traceparent` of the request, when it began.
    """

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        directives: Callable[[], Sequence[Directive]],
        not_ready: Callable[[], str | None],
        keep: Callable[[DecisionRecord], Awaitable[object]],
        deadline_seconds: float,
        concurrency: int,
        traced: Callable[[DecisionRecord, str | None, float], object] = lambda record, trace, began_at: None,
    ) -> None:
        self._policy = policy
        self._directives = directives
        self._not_ready = not_ready
        self._keep = keep
        self._deadline_seconds = deadline_seconds
        self._concurrency = concurrency
        self._traced = traced
        # The engine takes one question at a time.
        self._thread = ThreadPoolExecutor(1, "policy")
        self.pending = 0
        self._later: set[asyncio.Future[None]] = set()
        #: (answer, why it is not that of the rules) -> requests; (bound) -> answers within it.
        self.answers: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self.within: Counter[float] = Counter()
        self.seconds = 0.0

    def ready(self) -> str | None:
        """Why no request can be answered; None if one can."""
        if self._policy() is NONE:
            return "no verified policy bundle is loaded"
        return self._not_ready()

    async def answer(self, request: AdmissionRequest, context: bytes | None = None) -> AdmissionResponse:
        """Answer a request, with its record kept before; a dry run keeps none.

        Parameters
        ----------
        request
            What is asked.
        context
            Of the trace it is part of (`app.core.trace`).

        Raises
        ------
        Busy
            If too many requests wait.
        NotReady
            If none can be answered yet.
        """
        self.check()
        self.pending += 1
        began, began_at = time.monotonic(), time.time()
        try:
            question, policy = admission.asked(request, trace_id(context)), self._policy()
            decided, failed = await self._decided(question, policy, began)
            if not request.dry_run:
                decided, failed = await self._kept(decided, failed, question, policy, began)
            self.answers[decided.response.answer, failed] += 1
            self._traced(decided.record, traceparent(context), began_at)
            return decided.response
        finally:
            self.pending -= 1
            self._took(time.monotonic() - began)

    def check(self) -> None:
        """Refuse at once what would be refused later, before anything of it is read.

        Raises
        ------
        Busy, NotReady
            As `answer`.
        """
        if (why := self.ready()) is not None:
            self.refused["not_ready"] += 1
            raise NotReady(why)
        if self.pending >= self._concurrency:
            self.refused["busy"] += 1
            raise Busy

    async def _decided(self, question: Asked, policy: Policy, began: float) -> tuple[Decided, str]:
        try:
            async with asyncio.timeout(self._left(began, _DECIDING_SHARE)):
                work = asyncio.get_running_loop().run_in_executor(
                    self._thread,
                    _decide,
                    question,
                    policy,
                    self._directives(),
                    began + _DECIDING_SHARE * self._deadline_seconds,
                )
                return await work, ""
        except TimeoutError:
            why = f"no decision within {self._deadline_seconds:g} s"
            return admission.denied(question, policy, why, time.time()), "late"

    async def _kept(
        self, decided: Decided, failed: str, question: Asked, policy: Policy, began: float
    ) -> tuple[Decided, str]:
        """Keep the record of an answer; an answer without one is deny."""
        try:
            async with asyncio.timeout(self._left(began)):
                await self._keep(decided.record)
            return decided, failed
        except (TimeoutError, OSError, RuntimeError) as error:
            why = f"the decision could not be put on record: {type(error).__name__}"
            instead = admission.denied(question, policy, why, time.time())
            # The record may be on its way nevertheless; what was answered comes after it, if anything does.
            later = asyncio.ensure_future(self._keep_later(instead.record))
            self._later.add(later)
            later.add_done_callback(self._later.discard)
            return instead, "not_recorded"

    async def _keep_later(self, record: DecisionRecord) -> None:
        try:
            await self._keep(record)
        except (OSError, RuntimeError) as error:
            log.error("the denial of %s is not on record: %s", record.run_id, error)

    def _left(self, began: float, share: float = 1.0) -> float:
        return max(share * self._deadline_seconds - (time.monotonic() - began), 0.001)

    def _took(self, seconds: float) -> None:
        self.seconds += seconds
        self.within[next((bound for bound in BOUNDS if seconds <= bound), float("inf"))] += 1

    def close(self) -> None:
        """Take no further question."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _decide(question: Asked, policy: Policy, directives: Sequence[Directive], deadline: float) -> Decided:
    """Decide, in the thread of the engine."""

    def ask(path: str, document: bytes) -> bytes:
        if time.monotonic() >= deadline:
            raise PolicyError("the time is up")
        return policy.evaluate.ask(path, document) if isinstance(policy.evaluate, Deferred) else b""

    return admission.decide(question, policy, ask, directives, time.time())
