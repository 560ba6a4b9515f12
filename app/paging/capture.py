"""What an incident is judged by later, put into one file as it begins: nobody has to think of it at three at night.

A bundle is a tar file with one file a source and `manifest.json`, which has the SHA-256 of each and, of each that could
not be had or not wholly, why.
"""

import asyncio
import io
import json
import logging
import re
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from app.conventions import DECISIONS, EVIDENCE, JOBS, RESULTS, VIOLATIONS
from app.core.evidence import instant
from app.core.incidents import Incident
from app.core.names import file_name
from app.paging.records import Affected, about_runs, affected
from app.settings import Settings

log = logging.getLogger("qethics.pager")

#: Metrics from so long before an incident began.
BEFORE_SECONDS: Final = 900.0
_STEP: Final = "15s"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
#: What was sent and said of runs, from so long before an incident began.
_ABOUT_RUNS: Final = (JOBS, RESULTS, VIOLATIONS, DECISIONS, EVIDENCE)
_SOME: Final = 10
_RUNS_BEFORE_SECONDS: Final = 120.0
_READ_SECONDS: Final = 30.0
_CLOCKS_APART_SECONDS: Final = 60.0
_CUT_SHORT: Final = f"not everything was read within {_READ_SECONDS:.0f} s"
_MOST_BYTES: Final = 64 * 2**20
#: Of gzip: the first gets most of what there is to be had of JSON, in a fraction of the time.
_LEVEL: Final = 1
_EMPTY: Final = re.compile(rb'"result":\s*\[\]')
_METRICS: Final = '{__name__=~"qethics_.*|qethics:.*"}'


#: What gives a file of a bundle for an incident.
Source = Callable[[Incident], Awaitable[Any]]


class Partly(NamedTuple):
    """What a source had, and what it lacks of what was asked for; nothing if that is empty."""

    content: Any
    lacks: str


class Captured(NamedTuple):
    """A bundle that was written, its digest, and the sources that it lacks, wholly or in part, with the reason."""

    path: Path
    digest: str
    missing: Mapping[str, str]


class Capture:
    """Writes bundles.

    Parameters
    ----------
    directory
        Where they are written.
    sources
        File name -> what gives its content for an incident, or a part of it (`Partly`); raises if it cannot.
    """

    def __init__(self, directory: Path, sources: Mapping[str, Source]) -> None:
        self._directory = directory
        self._sources = sources

    async def __call__(self, incident: Incident) -> Captured:
        """Write the bundle of an incident; a source that fails is missing from it, with the reason, and stops nothing.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        found = await asyncio.gather(*(source(incident) for source in self._sources.values()), return_exceptions=True)
        files: dict[str, bytes] = {"incident.json": msgspec.json.format(msgspec.json.encode(incident))}
        missing: dict[str, str] = {}
        for name, had in zip(self._sources, found, strict=True):
            if isinstance(had, BaseException):
                missing[name] = f"{type(had).__name__}: {had}"
            else:
                content, lacks = had if isinstance(had, Partly) else Partly(had, "")
                files[name] = content if isinstance(content, bytes) else msgspec.json.encode(content)
                if lacks:
                    missing[name] = lacks
            if name in missing:
                log.warning("incident %s: %s: %s", incident.incident_id, name, missing[name])
        about = {"incident_id": incident.incident_id, "captured_at": instant(time.time()), "missing": missing}
        path = self._directory / f"{file_name(incident.incident_id)}.tar.gz"
        digest = await asyncio.to_thread(_written, path, files, about)  # the pages that go out wait for no archive
        return Captured(path, digest, missing)


def page_of(session: aiohttp.ClientSession, urls: list[str], path: str, token: bytes | None = None) -> Source:
    """A source: a page of every worker, as {address: content}, or why it could not be had: one may be what is wrong.

    The workers are asked with a token, if one is given.
    """
    headers = {"Authorization": f"Bearer {token.decode()}"} if token is not None else {}

    async def page(url: str) -> tuple[str, str | None]:
        """A page, or why it could not be had."""
        try:
            async with session.get(url + path, headers=headers, timeout=_TIMEOUT) as answer:
                return (await _whole(answer)).decode(), None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            why = f"not to be had: {type(error).__name__}: {error}"
            return why, f"{url} {why}"

    async def read(incident: Incident) -> Partly:
        found = await asyncio.gather(*map(page, urls))
        pages = {url: text for url, (text, _) in zip(urls, found, strict=True)}
        return _with_lacks(pages, [why for _, why in found if why is not None])

    return read


def _with_lacks(content: Any, lacks: list[str]) -> Partly:
    return Partly(content, "; ".join(lacks))


def metrics_around(session: aiohttp.ClientSession, prometheus: str) -> Source:
    """A source: every figure of ours around the beginning of an incident, as Prometheus has it."""

    async def read(incident: Incident) -> Partly:
        start = (incident.started_at or time.time()) - BEFORE_SECONDS
        query = {"query": _METRICS, "start": f"{start:.3f}", "end": f"{time.time():.3f}", "step": _STEP}
        url = f"{prometheus}/api/v1/query_range"
        async with session.post(url, data=query, timeout=_TIMEOUT) as answer:
            found = await _whole(answer)
        return _with_lacks(found, ["Prometheus has no figure of ours"] if _EMPTY.search(found) else [])

    return read


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """The body of an answer, to its end; raises if it is an error, or larger than is kept."""
    answer.raise_for_status()
    found = bytearray()
    async for chunk in answer.content.iter_any():
        found += chunk
        if len(found) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
    return bytes(found)


def affected_runs(settings: Settings) -> Source:
    """A source: every run that something was wrong with, from shortly before an incident began."""

    async def read(incident: Incident) -> Partly:
        found = await affected(settings, **_span(incident))
        return _with_lacks(found, [] if found.is_whole else [_CUT_SHORT])

    return read


def once(source: Source) -> Source:
    """A source that another one asks as well: for an incident it reads once, whoever asks while it does."""
    asked: dict[str, asyncio.Future[Any]] = {}

    def read(incident: Incident) -> Awaitable[Any]:
        found = asked.get(incident.incident_id)
        if found is None:
            found = asked[incident.incident_id] = asyncio.ensure_future(source(incident))
            found.add_done_callback(lambda _: asked.pop(incident.incident_id))
        return found

    return read


def runs(settings: Settings, affected_ones: Source) -> Source:
    """A source: all that was sent and said of the runs that an alert names, or of some of those that were affected.

    What Prometheus fires is about shares and names no run.

    Parameters
    ----------
    settings
        Where Kafka is.
    affected_ones
        What `affected_runs` made.
    """

    async def read(incident: Incident) -> Partly:
        span = _span(incident)
        wanted = [name.strip() for name in incident.annotations.get("runs", "").split(",") if name.strip()]
        if not wanted:
            wanted = some_of((await affected_ones(incident)).content)
        found = await about_runs(settings, _ABOUT_RUNS, wanted, **span)
        lacks = [] if all(one.is_whole for one in found.values()) else [_CUT_SHORT]
        nothing = [name for name, one in found.items() if not one.records]
        return _with_lacks(found, lacks + ([f"nothing was found of {', '.join(nothing)}"] if nothing else []))

    return read


def some_of(found: Affected) -> list[str]:
    """Runs to look at more closely: in turn one of each kind of wrong, up to ten."""
    in_turn = (run_id for kinds in zip_longest(*found.runs.values()) for run_id in kinds if run_id is not None)
    return list(islice(dict.fromkeys(in_turn), _SOME))


def _span(incident: Incident) -> dict[str, float]:
    """Since when records are looked at, until when, and how long that may take.

    All there is up to now is meant, whosever clock has timed it.
    """
    now = time.time()
    since = (incident.started_at or now) - _RUNS_BEFORE_SECONDS
    return {"since": since, "until": now + _CLOCKS_APART_SECONDS, "seconds": _READ_SECONDS}


def _tar(files: Mapping[str, bytes]) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=_LEVEL) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o640
            archive.addfile(entry, io.BytesIO(content))
    return found.getvalue()


def _written(path: Path, files: Mapping[str, bytes], about: Mapping[str, Any]) -> str:
    """Write a bundle with its manifest; its digest."""
    digests = {name: sha256(content).hexdigest() for name, content in files.items()}
    manifest = json.dumps({**about, "files": digests}, indent=1).encode()
    content = _tar({**files, "manifest.json": manifest})
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_suffix(".part")
    waiting.write_bytes(content)
    waiting.replace(path)
    return sha256(content).hexdigest()
