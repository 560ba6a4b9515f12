"""The policies that this process has verified, ready to judge."""

import asyncio
import logging
import time
from collections.abc import Collection
from hashlib import sha256
from typing import Final

from app.core.evaluating import PolicyError
from app.core.policy import NONE, Policy
from app.policy import bundle as bundles
from app.policy.evaluator import LABELS, Deferred
from app.policy.trial import passed
from app.policy.trust import NOTHING, Revocations, Trust

log = logging.getLogger("qethics.policy")

#: How often a bundle is verified for which that did not come to an end.
_TRIES: Final = 3
#: Refusals that are remembered, so that the same bundle is looked at once however many partitions it is put into.
_MOST_REFUSED: Final = 64
_UNUSED_SECONDS: Final = 300.0


class Bundles:
    """Policies that come in signed bundles (`app.core.policy.Policies`).

    Parameters
    ----------
    keys
        Whose signature is trusted.
    revocations
        What is not trusted in spite of it.
    """

    def __init__(self, keys: bundles.Keys, revocations: Revocations = NOTHING) -> None:
        #: What a partition begins with: the last that the source held; until then, what denies everything.
        self.current = NONE
        #: What is trusted now.
        self.trust = Trust(keys, revocations)
        self._ready: dict[bytes, Policy] = {}
        self._refused: dict[bytes, str] = {}
        #: Of what could not be said whether it can be used: why.
        self._unsettled: dict[bytes, str] = {}
        self._unused_at: dict[bytes, float] = {}
        self._lock = asyncio.Lock()

    def go_by(self, trust: Trust) -> None:
        """Trust other keys and revocations from now on: what is not trusted any more judges nothing."""
        self.trust = trust
        self._refused.clear()  # it may have been for its key
        for policy in self._ready.values():
            policy.revoked = trust.objection_to(policy.pack, policy.key_id)
            if policy.revoked is not None:
                log.warning("bundle %d is not trusted any more: %s", policy.pack.version, policy.revoked)
        if self.current.revoked is not None:
            self.current = NONE

    async def prepare(self, bundle: bytes) -> None:
        """Verify a bundle away from the event loop, so that `load` need not."""
        async with self._lock:
            name = sha256(bundle).digest()
            for _ in range(_TRIES):
                if name not in self._ready and name not in self._refused:
                    await asyncio.to_thread(self._verify, name, bundle)

    def load(self, bundle: bytes) -> Policy:
        """The policy of a bundle: signed by a trusted key, whole, and passing its own tests.

        Raises
        ------
        PolicyError
            If it is not; `Unsettled` if that could not be said.
        """
        name = sha256(bundle).digest()
        if not any(name in known for known in (self._ready, self._refused, self._unsettled)):
            self._verify(name, bundle)
        if name in self._ready:
            policy = self._ready[name]
            if policy.revoked is not None:
                raise PolicyError(policy.revoked)
            return policy
        if name in self._refused:
            raise PolicyError(self._refused[name])
        raise bundles.Unsettled(self._unsettled.pop(name))  # and is not remembered: another time it may be said

    def restore(self, bundle: bytes) -> Policy:
        """The policy of a bundle that was in force; `current` if there was none, or it is not trusted any more.

        Its tests were passed when it was put in force and are not run again; who signed it is checked again.
        """
        if not bundle:
            return self.current
        name = sha256(bundle).digest()
        try:
            if name not in self._ready:
                policy = self._trusted(bundles.read(bundle, self.trust.keys), bundle)
                policy.check_version(time.time())
                self._ready[name] = policy
            if (why := self._ready[name].revoked) is not None:
                raise PolicyError(why)
        except PolicyError as error:
            log.error("the bundle that was in force is so no more: %s", error)
            return self.current
        return self._ready[name]

    def keep(self, used: Collection[Policy], now: float) -> None:
        """End the engines of policies that were not used for a while, `now` in seconds.

        A policy may have been handed out for a stage that is being restored, and is used by nobody yet.
        """
        for name, policy in list(self._ready.items()):
            if policy in used or policy is self.current:
                self._unused_at.pop(name, None)
            elif now - self._unused_at.setdefault(name, now) > _UNUSED_SECONDS:
                del self._ready[name], self._unused_at[name]
                _end(policy)

    def close(self) -> None:
        """End all engines."""
        for policy in self._ready.values():
            _end(policy)
        self._ready.clear()

    def _trusted(self, opened: bundles.Bundle, bundle: bytes) -> Policy:
        if (why := self.trust.objection_to(opened.pack, opened.key_id)) is not None:
            raise bundles.BundleError(why)
        # Its engine is started when it is asked: most bundles that come by in an old log never are.
        return Policy(opened.pack, Deferred(opened.pack.modules, opened.pack.data), bundle, LABELS, opened.key_id)

    def _verify(self, name: bytes, bundle: bytes) -> None:
        try:
            opened = bundles.read(bundle, self.trust.keys)
            policy = self._trusted(opened, bundle)
            passed(opened)
            self._ready[name] = policy
            self._unsettled.pop(name, None)
        except bundles.Unsettled as error:
            self._unsettled[name] = str(error)
        except PolicyError as error:
            self._refused[name] = " ".join(str(error).split())
            while len(self._refused) > _MOST_REFUSED:
                del self._refused[next(iter(self._refused))]


def _end(policy: Policy) -> None:
    if isinstance(policy.evaluate, Deferred):
        policy.evaluate.close()
