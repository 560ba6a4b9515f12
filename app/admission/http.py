"""The gate over HTTP: our own requests, Kubernetes' reviews, and the pages that watch it."""

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from app.admission import review
from app.admission.gatekeeper import Busy, Gatekeeper, NotReady
from app.core.admission import AdmissionRequest
from app.core.outcomes import Directive
from app.core.trace import HEADER, context
from app.unreadable import UNREADABLE
from app.web.answers import body, healthz, json_answer, metrics_page, middlewares
from app.web.refusals import MOST_BYTES, Handler, Refused

_REQUEST: Final = msgspec.json.Decoder(AdmissionRequest)


def application(
    gatekeeper: Gatekeeper,
    registry: CollectorRegistry,
    directives: Callable[[], list[Directive]],
    token: bytes | None,
    hosts: Collection[str] = (),
) -> web.Application:
    """The pages of the gate.

    Parameters
    ----------
    gatekeeper
        Answers.
    registry
        What `/metrics` shows.
    directives
        What `/v1/directives` shows: the directives in force.
    token
        What a request must carry as a bearer token (RFC 6750), if anything.
    hosts
        Names of the gate, beside those of loopback and its address.
    """
    pages = _Pages(gatekeeper, directives)
    app = web.Application(client_max_size=2 * MOST_BYTES, middlewares=[*middlewares(token, hosts), _not_now])
    app.add_routes(
        [
            web.post("/v1/admission", pages.admission),
            web.post("/v1/admission-review", pages.admission_review),
            web.get("/v1/directives", pages.directives),
            web.get("/metrics", metrics_page(registry)),
            web.get("/healthz", healthz),
            web.get("/readyz", pages.readyz),
        ]
    )
    return app


class _Pages:
    def __init__(self, gatekeeper: Gatekeeper, active: Callable[[], list[Directive]]) -> None:
        self._gatekeeper = gatekeeper
        self._active = active

    async def admission(self, request: web.Request) -> web.Response:
        self._gatekeeper.check()
        try:
            question = _REQUEST.decode(await body(request))
        except UNREADABLE as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"no admission request: {error}") from error
        return json_answer(await self._gatekeeper.answer(question, _context(request)))

    async def admission_review(self, request: web.Request) -> web.Response:
        self._gatekeeper.check()
        try:
            asked = review.read(await body(request))
        except review.ReviewError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        question = review.asked(asked)
        if isinstance(question, AdmissionRequest):
            question = review.answered(asked, await self._gatekeeper.answer(question, _context(request)))
        return json_answer(review.Review(question))

    async def directives(self, request: web.Request) -> web.Response:
        return json_answer({"directives": self._active()})

    async def readyz(self, request: web.Request) -> web.Response:
        why = self._gatekeeper.ready()
        return web.Response(text=f"{why or 'ready'}\n", status=200 if why is None else 503)


@web.middleware
async def _not_now(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What cannot be answered now, and when to ask again."""
    try:
        return await handler(request)
    except Busy as error:
        raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too many requests at once", {"Retry-After": "1"}) from error
    except NotReady as error:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "1"}) from error


def _context(request: web.Request) -> bytes | None:
    found = request.headers.get(HEADER)
    return None if found is None else context([(HEADER, found.encode(errors="replace"))])
