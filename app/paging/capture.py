"""What an incident is judged by later, put into one file as it begins: nobody has to think of it at three at night.

A bundle is a tar file with one file a source and `manifest.json`, which has the SHA-256 of each and, of each that could
not be had, why.
"""

import asyncio
import io
import json
import logging
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
from app.paging.records import Affected, Records, about_runs, affected
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
_MOST_BYTES: Final = 64 * 2**20
#: Of gzip: the first gets most of what there is to be had of JSON, in a fraction of the time.
_LEVEL: Final = 1
_METRICS: Final = '{__name__=~"qethics_.*|qethics:.*"}'


class Captured(NamedTuple):
    """A bundle that was written, its digest, and the sources that it lacks."""

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
        File name -> what gives its content for an incident; raises if it cannot.
    """

    def __init__(self, directory: Path, sources: Mapping[str, Callable[[Incident], Awaitable[Any]]]) -> None:
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
        for name, content in zip(self._sources, found, strict=True):
            if isinstance(content, BaseException):
                missing[name] = f"{type(content).__name__}: {content}"
                log.warning("incident %s: no %s: %s", incident.incident_id, name, missing[name])
            else:
                files[name] = content if isinstance(content, bytes) else msgspec.json.encode(content)
        about = {"incident_id": incident.incident_id, "captured_at": instant(time.time()), "missing": missing}
        path = self._directory / f"{incident.incident_id}.tar.gz"
        digest = await asyncio.to_thread(_written, path, files, about)  # the pages that go out wait for no archive
        return Captured(path, digest, missing)


def page_of(session: aiohttp.ClientSession, urls: list[str], path: str) -> Callable[[Incident], Awaitable[Any]]:
    """A source: a page of every worker, as {address: content}, or why it could not be had: one may be what is wrong."""

    async def page(url: str) -> str:
        try:
            async with session.get(url + path, timeout=_TIMEOUT) as answer:
                return (await _whole(answer)).decode()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"not to be had: {type(error).__name__}: {error}"

    async def read(incident: Incident) -> dict[str, str]:
        return dict(zip(urls, await asyncio.gather(*map(page, urls)), strict=True))

    return read


def metrics_around(session: aiohttp.ClientSession, prometheus: str) -> Callable[[Incident], Awaitable[Any]]:
    """A source: every figure of ours around the beginning of an incident, as Prometheus has it."""

    async def read(incident: Incident) -> bytes:
        start = (incident.started_at or time.time()) - BEFORE_SECONDS
        query = {"query": _METRICS, "start": f"{start:.3f}", "end": f"{time.time():.3f}", "step": _STEP}
        url = f"{prometheus}/api/v1/query_range"
        async with session.post(url, data=query, timeout=_TIMEOUT) as answer:
            return await _whole(answer)

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


def affected_runs(settings: Settings) -> Callable[[Incident], Awaitable[Any]]:
    """A source: every run that something was wrong with, from shortly before an incident began."""

    async def read(incident: Incident) -> Affected:
        since, until = _span(incident)
        return await affected(settings, since=since, until=until, seconds=_READ_SECONDS)

    return read


def runs(settings: Settings) -> Callable[[Incident], Awaitable[Any]]:
    """A source: all that was sent and said of the runs that an alert names, or of some of those that were affected.

    What Prometheus fires is about shares and names no run.
    """

    async def read(incident: Incident) -> dict[str, Records]:
        since, until = _span(incident)
        wanted = [name.strip() for name in incident.annotations.get("runs", "").split(",") if name.strip()]
        if not wanted:
            wanted = some_of(await affected(settings, since=since, until=until, seconds=_READ_SECONDS))
        return await about_runs(settings, _ABOUT_RUNS, wanted, since=since, until=until, seconds=_READ_SECONDS)

    return read


def some_of(found: Affected) -> list[str]:
    """Runs to look at more closely: in turn one of each kind of wrong, up to ten."""
    in_turn = (run_id for kinds in zip_longest(*found.runs.values()) for run_id in kinds if run_id is not None)
    return list(islice(dict.fromkeys(in_turn), _SOME))


def _span(incident: Incident) -> tuple[float, float]:
    now = time.time()
    return (incident.started_at or now) - _RUNS_BEFORE_SECONDS, now


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
