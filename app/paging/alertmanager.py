"""One Alertmanager: what fires is sent to it until it does no longer, whatever becomes of it meanwhile.

Each of a cluster has a client of its own (Alertmanager's documentation: send to all of them, do not balance), so that a
slow or dead one keeps no page from the others.
"""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import msgspec

from app.core.catalog import Maintenance
from app.core.evidence import instant
from app.core.identity import outcome_id
from app.core.paging import Book, Lease, posted
from app.core.telling import Telling

log = logging.getLogger("qethics.pager")

_PATH: Final = "/api/v2/alerts"
_SILENCES: Final = "/api/v2/silences"
#: Alerts of one request: a storm is sent piece by piece, pages first.
_AT_ONCE: Final = 64
#: A slow one is waited for; only what is not answered for so long is sent again.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=5)
_LEAST_PAUSE_SECONDS: Final = 0.25
_MOST_PAUSE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 30.0
_TAKEN: Final = 200
#: What is wrong is in what was sent: it cannot be read, or is too large. 413 and 422 come from what stands before an
#: Alertmanager.
_REFUSED: Final = frozenset({400, 413, 422})
_ANSWERED: Final = _REFUSED | {_TAKEN}


class Alertmanager:
    """The client of one Alertmanager.

    Parameters
    ----------
    url
        Its address.
    session
        Of the process.
    book
        What fires, and what has ended.
    telling
        What it was told, and is to be.
    generator
        Our own address.
    creator
        Who makes silences. Those of another are left alone: more than one deployment may have this Alertmanager.
    """

    def __init__(
        self, url: str, session: aiohttp.ClientSession, book: Book, telling: Telling, generator: str, creator: str
    ) -> None:
        self.url = url.rstrip("/")
        self.pushed_at = 0.0
        #: What became of requests: ok, failed.
        self.requests: Counter[str] = Counter()
        #: Alerts that it does not take.
        self.refused = 0
        #: Set when there is something new to be sent.
        self.wake = asyncio.Event()
        self._session = session
        self._book = book
        self._telling = telling
        self._generator = generator
        self._creator = creator

    async def run(self) -> None:
        """Send what is due, without end; after each piece it is looked again, so that a page waits for no ticket."""
        pause = _LEAST_PAUSE_SECONDS
        while True:
            due = self._telling.due(self._book.leases(), time.time())[:_AT_ONCE]
            if not due:
                await self._idle()
            elif await self._send(due):
                pause = _LEAST_PAUSE_SECONDS
            else:
                # Whoever comes back may have lost its state: everything is sent again.
                self._telling.failed()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MOST_PAUSE_SECONDS)

    async def _idle(self) -> None:
        """Wait for something new, or until something may be due again."""
        self._telling.keep(self._book.leases())
        self.wake.clear()
        try:
            await asyncio.wait_for(self.wake.wait(), _LOOK_SECONDS)
        except TimeoutError:
            return

    async def _send(self, due: Sequence[Lease]) -> bool:
        """Send a piece of what is due; whether all of it was taken, or refused for good."""
        status = await self._post(due)
        if status in _REFUSED and len(due) > 1:
            # It took those that it could read, and said 400 all the same: one by one, so that only those that it
            # cannot read are refused.
            return all([await self._post([each]) in _ANSWERED for each in due])
        return status in _ANSWERED

    async def _post(self, leases: Sequence[Lease]) -> int:
        """The status of one request; 0 where there was none."""
        now = time.time()
        body = msgspec.json.encode([posted(each, now, self._generator) for each in leases])
        status, _ = await self._request("POST", _PATH, body)
        self.requests["ok" if status == _TAKEN else "failed"] += 1
        if status == _TAKEN:
            self.pushed_at = now
        is_refused = status in _REFUSED and len(leases) == 1
        if status == _TAKEN or is_refused:
            for each in leases:
                self._telling.taken(each, now, time.time())
        if is_refused:
            self.refused += 1
            log.error("%s refuses %s", self.url, leases[0].labels)  # what it answered is in the line before
        return status

    async def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._session.request(
                method, self.url + path, data=body, headers=headers, timeout=_TIMEOUT
            ) as answer:
                text = await answer.text()
                if answer.status != _TAKEN:
                    log.warning("%s%s answers %d: %s", self.url, path, answer.status, text[:500])
                return answer.status, text
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError) as error:
            log.warning("%s is not reached: %s", self.url, error or type(error).__name__)
            return 0, ""

    # -- maintenance -------------------------------------------------------------------------------------------------

    async def run_maintenance(self, windows: Sequence[Maintenance]) -> None:
        """Keep a silence for every maintenance window, without end: one that loses its state gets them again."""
        while True:
            now = time.time()
            wanted = [_silence_of(each, self._creator) for each in windows if each.ends.timestamp() > now]
            await self._keep_silences(wanted)
            await asyncio.sleep(_SILENCE_SECONDS)

    async def _keep_silences(self, wanted: Sequence[dict[str, Any]]) -> None:
        status, text = await self._request("GET", _SILENCES)
        if status != _TAKEN:
            return
        try:
            known = {
                each["comment"]: each["id"]
                for each in json.loads(text)
                if each["status"]["state"] != "expired" and each["createdBy"] == self._creator
            }
        except (ValueError, KeyError, TypeError) as error:
            log.error("%s says something else than silences: %s", self.url, error)
            return
        comments = {each["comment"] for each in wanted}
        calls = [("POST", _SILENCES, json.dumps(each).encode()) for each in wanted if each["comment"] not in known]
        calls += [("DELETE", f"/api/v2/silence/{name}", b"") for text, name in known.items() if text not in comments]
        for method, path, body in calls:
            await self._request(method, path, body or None)


def _silence_of(window: Maintenance, creator: str) -> dict[str, Any]:
    """A window as a silence. Its comment is what it is known by later, so it says which matchers and times it has."""
    begins, ends = instant(window.begins.timestamp()), instant(window.ends.timestamp())
    names = sorted(window.matchers)
    which = outcome_id("silence", begins, ends, *(part for name in names for part in (name, window.matchers[name])))
    return {
        "matchers": [
            {"name": name, "value": window.matchers[name], "isRegex": False, "isEqual": True} for name in names
        ],
        "startsAt": begins,
        "endsAt": ends,
        "createdBy": creator,
        "comment": f"{window.id}: {window.reason} ({window.by}, until {ends}) [{which[:8]}]",
    }
