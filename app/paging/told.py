"""What somebody was told of, in a file of the pager's own: a pager that is started again tells it no second time.

The topic `alerts` says what fires and not what was told. Without the file nothing is known to have been told, so what
ended a short while ago is told again: once too often is better than never.
"""

import logging
from pathlib import Path

import msgspec

from app.core.telling import Told
from app.unreadable import UNREADABLE

log = logging.getLogger("qethics.pager")


class ToldFile:
    """The file, and what it says.

    Parameters
    ----------
    path
        Of the file; what cannot be read there counts for nothing, and is said.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Fingerprint -> of what somebody was told.
        self.told: dict[str, Told] = {}
        try:
            self.told = msgspec.json.decode(path.read_bytes(), type=dict[str, Told])
        except FileNotFoundError:
            log.info("%s is not there: what ended a short while ago is told again", path)
        except (OSError, *UNREADABLE) as error:
            log.error("%s cannot be read, so what ended a short while ago is told again: %s", path, error)
        self._written = dict(self.told)

    def keep(self, known: set[str]) -> None:
        """Forget all but these fingerprints, and write what has changed."""
        for fingerprint in self.told.keys() - known:
            del self.told[fingerprint]
        if self.told == self._written:
            return
        partial = self._path.with_suffix(".partial")
        try:
            partial.write_bytes(msgspec.json.encode(self.told))
            partial.replace(self._path)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error)
            return
        self._written = dict(self.told)
