"""The pages of the pager: Alertmanager's webhook, incidents, runbooks, and the pages that watch it."""

import html
import re
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import Meta, Struct
from prometheus_client import CollectorRegistry

from app.catalog import DEFAULT_DIRECTORY
from app.core.incidents import PHASES, Incident, Kind, Notification, phases
from app.paging.desk import Desk
from app.paging.runpage import RunPages
from app.unreadable import UNREADABLE
from app.web.answers import body, healthz, json_answer, metrics_page, middlewares
from app.web.refusals import MOST_BYTES, Refused

RUNBOOKS: Final = DEFAULT_DIRECTORY.parent / "docs" / "runbooks"
_NAME: Final = re.compile(r"[A-Za-z]{1,100}\Z")
_MOST_LISTED: Final = 1_000
_ACTS: Final[dict[str, Kind]] = {
    "acknowledge": "acknowledged",
    "mitigate": "mitigated",
    "resolve": "resolved",
    "note": "noted",
}


class ActRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says of an incident."""

    by: Annotated[str, Meta(min_length=1, max_length=100)]
    text: Annotated[str, Meta(max_length=2_000)] = ""


class IncidentView(Struct, frozen=True):
    """An incident as it is shown."""

    incident: Incident
    phase: str
    #: Phase -> seconds that it took; None while it has not ended.
    took_seconds: dict[str, float | None]
    #: The incident of the same alert that ended within an hour before this one began.
    reopens: str | None


_NOTIFICATION: Final = msgspec.json.Decoder(Notification)
_ACT: Final = msgspec.json.Decoder(ActRequest)


def application(
    desk: Desk,
    registry: CollectorRegistry,
    token: bytes | None,
    is_ready: Callable[[], bool],
    runs: RunPages,
    hosts: Collection[str] = (),
) -> web.Application:
    """The pages of the pager.

    Parameters
    ----------
    desk
        Keeps the incidents.
    registry
        What `/metrics` shows.
    token
        What a request must carry as a bearer token (RFC 6750), if anything.
    is_ready
        Whether everything was read that was there at the start.
    runs
        The pages of runs.
    hosts
        Names of the pager, beside those of loopback and its address.
    """
    pages = _Pages(desk, is_ready)
    app = web.Application(client_max_size=2 * MOST_BYTES, middlewares=middlewares(token, hosts))
    app.add_routes(
        [
            web.post("/v1/alertmanager", pages.alertmanager),
            web.get("/v1/incidents", pages.incidents),
            web.get("/v1/incidents/{id}", pages.incident),
            web.post("/v1/incidents/{id}/{act}", pages.act),
            web.get("/v1/mttr", pages.mttr),
            web.get("/v1/runs/{id}", runs.document),
            web.get("/runs/{id}", runs.page),
            web.get("/runbooks/{name}", runbook),
            web.get("/metrics", metrics_page(registry)),
            web.get("/healthz", healthz),
            web.get("/readyz", pages.readyz),
        ]
    )
    return app


class _Pages:
    def __init__(self, desk: Desk, is_ready: Callable[[], bool]) -> None:
        self._desk = desk
        self._is_ready = is_ready

    async def alertmanager(self, request: web.Request) -> web.Response:
        self._check()
        try:
            notification = _NOTIFICATION.decode(await body(request))
            told = await self._desk.told(notification)
        except UNREADABLE as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"no notification of version 4: {error}") from error
        except KafkaError as error:
            # Alertmanager tries again on 5xx.
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"not on record: {error}") from error
        return json_answer({"incidents": told})

    async def incidents(self, request: web.Request) -> web.Response:
        self._check()
        open_only = request.query.get("open") in {"1", "true"}
        listed = [one for one in self._desk.incidents.listed() if not open_only or one.resolved_at is None]
        return json_answer({"incidents": self._views(listed[:_MOST_LISTED]), "of": len(listed)})

    async def incident(self, request: web.Request) -> web.Response:
        self._check()
        return json_answer(self._views([self._found(request)])[0])

    async def act(self, request: web.Request) -> web.Response:
        self._check()
        kind = _ACTS.get(request.match_info["act"])
        if kind is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"what can be done is {', '.join(_ACTS)}")
        one = self._found(request)
        try:
            asked = _ACT.decode(await body(request))
            done = await self._desk.act(one.incident_id, kind, asked.by, asked.text)
        except UNREADABLE as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f'{error}; send e.g. {{"by": "jane"}}') from error
        except KafkaError as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"not on record: {error}") from error
        return json_answer(self._views([done or one])[0])

    async def mttr(self, request: web.Request) -> web.Response:
        self._check()
        found = phases(self._desk.incidents.known.values())
        by_severity: dict[str, dict[str, Any]] = {}
        for (severity, phase), figures in found.items():
            by_severity.setdefault(severity, {})[phase] = figures._asdict()
        return json_answer({"seconds": by_severity, "reopened": len(self._desk.incidents.reopened())})

    async def readyz(self, request: web.Request) -> web.Response:
        ready = self._is_ready()
        text = "ready" if ready else "the topics are being read"
        return web.Response(text=f"{text}\n", status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    def _check(self) -> None:
        if not self._is_ready():
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the incidents are being read", {"Retry-After": "1"})

    def _found(self, request: web.Request) -> Incident:
        one = self._desk.incidents.known.get(request.match_info["id"])
        if one is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such incident; `qethics incident list` has them")
        return one

    def _views(self, incidents: Sequence[Incident]) -> list[IncidentView]:
        reopened = self._desk.incidents.reopened()
        return [
            IncidentView(one, one.phase, {phase: one.took(phase) for phase in PHASES}, reopened.get(one.incident_id))
            for one in incidents
        ]


async def runbook(request: web.Request) -> web.Response:
    """The runbook of an alert, as text in a page."""
    name = request.match_info["name"]
    path = Path(RUNBOOKS / f"{name}.md")
    if not _NAME.match(name) or not path.is_file():
        raise Refused(HTTPStatus.NOT_FOUND, "there is no runbook of that name")
    text = html.escape(path.read_text())
    page = f"<!doctype html><meta charset=utf-8><title>{name}</title><pre style='white-space:pre-wrap'>{text}</pre>"
    return web.Response(text=page, content_type="text/html")
