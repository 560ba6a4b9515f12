"""The seal of control records: a keyed digest, so that no other producer can make one.

HMAC-SHA-256 (RFC 2104, FIPS 198-1) over everything a control record says and where it says it, with the time of
sealing. Without a key nothing is sealed and nothing is asked for: whoever may write to a topic may then write control
records into it.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from app.conventions import SEAL_HEADER

#: A key has at least as many bytes as the digest (RFC 2104, section 3).
LEAST_KEY_BYTES: Final = 32
#: A record sealed this long before the time that its log has reached is an old one, written again.
MAX_AGE_SECONDS: Final = 300.0
_LATEST_MS: Final = 4_102_444_800_000  # 2100-01-01


class Seal:
    """Seals control records, and says what is wrong with a seal.

    Parameters
    ----------
    keys
        The first one seals, any of them verifies, so that a key can be replaced without a break. Each of at least
        `LEAST_KEY_BYTES`; none, and nothing is sealed.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        if any(len(key) < LEAST_KEY_BYTES for key in keys):
            raise ValueError(f"a control key has at least {LEAST_KEY_BYTES} bytes")
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        """Return whether there is a key."""
        return bool(self._keys)

    def headers(
        self, topic: str, partition: int, name: str, text: bytes, value: bytes, at: float
    ) -> list[tuple[str, bytes]]:
        """Return the headers of a control record.

        Parameters
        ----------
        topic, partition
            Where it is written; the short name of the topic.
        name, text
            The header that makes it a control record.
        value
            The value of the record.
        at
            Now, in seconds since the epoch.
        """
        if not self._keys:
            return [(name, text)]
        at_ms = int(at * 1000)
        seal = f"{at_ms}:{_digest(self._keys[0], topic, partition, name, text, value, at_ms)}"
        return [(name, text), (SEAL_HEADER, seal.encode())]

    def sealed_at(
        self, seal: bytes | None, topic: str, partition: int, name: str, text: bytes, value: bytes
    ) -> float | None:
        """Return when a record was sealed, in seconds since the epoch; None where the seal is not ours."""
        stamp, _, digest = (seal or b"").partition(b":")
        if not (stamp.isdigit() and len(stamp) <= len(str(_LATEST_MS)) and digest.isascii()):
            return None
        at_ms = int(stamp)
        for key in self._keys:
            expected = _digest(key, topic, partition, name, text, value, at_ms)
            if hmac.compare_digest(expected.encode(), digest):
                return at_ms / 1000
        return None


def _digest(key: bytes, topic: str, partition: int, name: str, text: bytes, value: bytes, at_ms: int) -> str:
    """Return the digest over all parts, each with its length in front, so that no two records have the same text."""
    parts = (topic.encode(), str(partition).encode(), name.encode(), text, value, str(at_ms).encode())
    return hmac.new(key, b"".join(len(part).to_bytes(8, "big") + part for part in parts), sha256).hexdigest()


#: What a deployment without a key goes by.
UNSEALED: Final = Seal()
