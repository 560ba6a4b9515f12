"""The bundle file that is the source of truth, and the partitions of a worker that are to go by it."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from app.core.evaluating import PolicyError
from app.core.policy import MOST_AHEAD_SECONDS, Policy
from app.errors import SettingError
from app.policy.bundle import MOST_BYTES, Unsettled
from app.policy.bundles import Bundles
from app.policy.evaluator import Deferred
from app.policy.trust import TrustFiles

log = logging.getLogger("qethics.policy")

#: A bundle that was put into the log of a partition is in force shortly after. After so long it is put there again.
_AGAIN_SECONDS: Final = 10.0


class Source:
    """The bundle file that says which policy is to be in force.

    Parameters
    ----------
    path
        The file. It is read when it changed; whoever writes it replaces it as a whole.
    bundles
        Verifies what it holds.
    remembered
        A file of our own with the highest version it ever held: an older one is refused after a restart as well.
    trust
        The files that say what is trusted, where they may change.
    """

    def __init__(self, path: Path, bundles: Bundles, remembered: Path, trust: TrustFiles | None = None) -> None:
        self.path = path
        #: The last policy it held that was good.
        self.policy: Policy | None = None
        #: Why what it holds now is refused; None if it is not.
        self.refused: str | None = None
        self.refusals = 0
        self._bundles = bundles
        self._remembered = remembered
        self._trust = trust
        self._seen: tuple[int, int, int] | None = None
        #: What the file holds now, if it could be verified.
        self._held: Policy | None = None

    async def look(self, in_force: Policy | None = None) -> None:
        """Look whether the file changed and verify what it holds; `in_force` is what it must not be older than."""
        try:
            await self._look_at_trust()
            found = await asyncio.to_thread(self._changed)
            if found is not None:
                self._held = None
                await self._bundles.prepare(found)
                self._held = self._bundles.load(found)
            if self._held is None:
                return
            await asyncio.to_thread(self._follow, self._held, in_force)
        except (OSError, PolicyError, SettingError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if isinstance(error, OSError | Unsettled):
                self._seen = None
            if self.refused != said:
                self.refused, self.refusals = said, self.refusals + 1
                log.error("%s is refused: %s", self.path, said)
            return
        self.policy = self._bundles.current = self._held
        self.refused = None

    async def _look_at_trust(self) -> None:
        """Go by the keys and revocations as they are now; what they do not cover any more is held no longer."""
        if self._trust is not None and await asyncio.to_thread(self._trust.look):
            self._bundles.go_by(self._trust.trust)
            self._seen = self._held = None
            if self.policy is not None and self.policy.revoked is not None:
                self.policy = None

    def _changed(self) -> bytes | None:
        """What the file holds, if it is another than the last time."""
        with self.path.open("rb") as file:
            state = os.fstat(file.fileno())
            seen = state.st_ino, state.st_size, state.st_mtime_ns
            if seen == self._seen:
                return None
            content = file.read(MOST_BYTES + 1)
        self._seen = seen
        return content

    def _follow(self, policy: Policy, in_force: Policy | None) -> None:
        """Check that it may follow what was there before, here or in the log, and have its engine ready."""
        policy.check_version(time.time())
        for before in (self.policy, in_force):
            if before is not None and before.revoked is None and before.digest != policy.digest:
                policy.follows(before)
        version = policy.pack.version
        highest, digest = self._highest()
        if version < highest or (version == highest and policy.digest != digest):
            raise PolicyError(f"its version {version} is not above {highest}, which was here before")
        if version > highest:
            partial = self._remembered.with_suffix(".partial")
            partial.write_text(f"{version} {policy.digest} {policy.key_id}")
            partial.replace(self._remembered)
        if isinstance(policy.evaluate, Deferred):
            policy.evaluate.start()

    def _highest(self) -> tuple[int, str]:
        """The highest version that was here, and its digest; of what is not trusted any more nothing is remembered."""
        try:
            text, digest, *key_id = self._remembered.read_text().split()
            version = int(text)
        except FileNotFoundError:
            return 0, ""
        except ValueError as error:
            raise PolicyError(f"{self._remembered} is no version; remove it if you know which one holds") from error
        # Files of before do not say which key it was: then only what else is said against it counts.
        why = self._bundles.trust.objection(version, digest, key_id[0] if key_id else None)
        return (0, "") if why is not None or version > time.time() + MOST_AHEAD_SECONDS else (version, digest)


class Watch:
    """Puts the source's policy in force in the partitions of a worker; metrics say where it is not.

    Parameters
    ----------
    source, bundles
        What is to be in force, and what must be kept ready for it.
    in_force
        Partition -> the policy it is judged by.
    activate
        Puts a bundle into the log of a partition.
    """

    def __init__(
        self,
        source: Source,
        bundles: Bundles,
        *,
        in_force: Callable[[], Mapping[int, Policy]],
        activate: Callable[[int, bytes], Awaitable[object]],
    ) -> None:
        self.source = source
        #: Partitions that are judged by another policy than the source has.
        self.drifted: list[int] = []
        self._bundles = bundles
        self._in_force = in_force
        self._activate = activate
        self._asked: dict[tuple[int, str], float] = {}

    async def run(self, seconds: float) -> None:
        """Step every so many seconds, without end."""
        while True:
            try:
                await self.step(time.time())
            except (OSError, RuntimeError) as error:  # Kafka's are of the latter kind
                log.warning("the policy could not be looked after: %s", error)
            await asyncio.sleep(seconds)

    async def step(self, now: float) -> None:
        """Look at the source and at the partitions once.

        Parameters
        ----------
        now
            Seconds since the epoch.
        """
        before = self._in_force()
        await self.source.look(max(before.values(), key=lambda policy: policy.pack.version, default=None))
        partitions, wanted = self._in_force(), self.source.policy
        right = wanted.digest if wanted is not None and self.source.refused is None else None
        self.drifted = [number for number, policy in partitions.items() if policy.digest != right]
        for number in self.drifted:
            if wanted is not None and wanted.pack.version > partitions[number].pack.version:
                await self._put(number, wanted, now)
        self._bundles.keep({*partitions.values()} | ({wanted} if wanted is not None else set()), now)

    async def _put(self, partition: int, policy: Policy, now: float) -> None:
        if now - self._asked.get((partition, policy.digest), float("-inf")) >= _AGAIN_SECONDS:
            await self._activate(partition, policy.bundle)
            self._asked[partition, policy.digest] = now
