"""Which bundles are trusted: whose signature is, and what was revoked since; both files may change while we run.

A key that leaked signs whatever somebody wants, also of a version that nothing can be above. So it is not enough to
trust it no more from now on: what it signed is taken out of force, and what comes next need not be above it.
"""

from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

from app.core.policy import Pack
from app.documents import read
from app.policy.bundle import Keys, read_keys

#: As many characters of a digest say which one it is; it is a bundle's revision.
_REVISION: Final = 16


class Revocations(Struct, frozen=True, forbid_unknown_fields=True):
    """What is not trusted although its signature is good; `qethics policy verify` prints what it is named by."""

    #: Ids of keys.
    keys: tuple[str, ...] = ()
    #: Revisions of bundles, or their whole digests.
    revisions: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    #: No version above it.
    version_at_most: int | None = None


#: Nothing is revoked.
NOTHING: Final = Revocations()


class Trust(NamedTuple):
    """The keys that are trusted, by id, and what is not trusted in spite of them."""

    keys: Keys
    revocations: Revocations = NOTHING

    def objection(self, version: int, digest: str, key_id: str | None) -> str | None:
        """Why a bundle that was verified is not to be trusted; None if it is, or if its key is not known (None)."""
        revoked = self.revocations
        if key_id in revoked.keys:
            return f"the key {key_id} that it is signed with was revoked"
        if key_id is not None and key_id not in self.keys:
            return "it is not signed by a key that is trusted here"
        if digest in revoked.revisions or digest[:_REVISION] in revoked.revisions:
            return f"its revision {digest[:_REVISION]} was revoked"
        if version in revoked.versions:
            return f"its version {version} was revoked"
        if revoked.version_at_most is not None and version > revoked.version_at_most:
            return f"its version {version} is above {revoked.version_at_most}, and those were revoked"
        return None

    def objection_to(self, pack: Pack, key_id: str) -> str | None:
        """As `objection`, of a pack that came in a bundle."""
        return self.objection(pack.version, pack.digest, key_id)


def read_trust(keys: Path, revocations: Path | None) -> Trust:
    """What the files say.

    Raises
    ------
    SettingError
        If one of them cannot be used.
    """
    return Trust(read_keys(keys), read(revocations, Revocations) if revocations is not None else NOTHING)


class TrustFiles:
    """The files, looked at again and again.

    Parameters
    ----------
    keys, revocations
        Their paths; without the latter nothing is revoked.

    Raises
    ------
    SettingError
        If one of them cannot be used.
    """

    def __init__(self, keys: Path, revocations: Path | None) -> None:
        self._paths = keys, revocations
        #: What they said the last time that they could be read.
        self.trust = read_trust(*self._paths)

    def look(self) -> bool:
        """Read them; whether they say something else than before.

        Raises
        ------
        SettingError
            If one of them cannot be used; what they said before holds.
        """
        before, self.trust = self.trust, read_trust(*self._paths)
        return before.revocations != self.trust.revocations or before.keys.keys() != self.trust.keys.keys()
