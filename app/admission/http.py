"""The gate over HTTP: our own requests, Kubernetes' reviews, and the pages that watch it."""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from app.admission import review
from app.admission.gatekeeper import Busy, Gatekeeper, NotReady
from app.core.admission import AdmissionRequest
from app.core.decode import MAX_NESTING, too_deep, trace_id
from app.core.outcomes import Directive

#: 1 MiB, as everywhere.
MOST_BYTES: Final = 2**20
_READ_SECONDS: Final = 2.0
_JSON: Final = "application/json"
_REQUEST: Final = msgspec.json.Decoder(AdmissionRequest)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A request that is not answered, with its status and why (RFC 9457)."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def application(
    gatekeeper: Gatekeeper,
    registry: CollectorRegistry,
    directives: Callable[[], list[Directive]],
    token: bytes | None,
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
    """
    pages = _Pages(gatekeeper, registry, directives)
    app = web.Application(client_max_size=2 * MOST_BYTES, middlewares=[_refusals, _guard(token)])
    app.add_routes(
        [
            web.post("/v1/admission", pages.admission),
            web.post("/v1/admission-review", pages.admission_review),
            web.get("/v1/directives", pages.directives),
            web.get("/metrics", pages.metrics),
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
        ]
    )
    return app


class _Pages:
    def __init__(
        self, gatekeeper: Gatekeeper, registry: CollectorRegistry, active: Callable[[], list[Directive]]
    ) -> None:
        self._gatekeeper = gatekeeper
        self._registry = registry
        self._active = active

    async def admission(self, request: web.Request) -> web.Response:
        self._gatekeeper.check()
        try:
            question = _REQUEST.decode(await _body(request))
        except msgspec.MsgspecError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"no admission request: {error}") from error
        return _json(await self._gatekeeper.answer(question, _trace_id(request)))

    async def admission_review(self, request: web.Request) -> web.Response:
        self._gatekeeper.check()
        try:
            asked = review.read(await _body(request))
        except review.ReviewError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        question = review.asked(asked)
        if isinstance(question, AdmissionRequest):
            question = review.answered(asked, await self._gatekeeper.answer(question, _trace_id(request)))
        return _json(review.Review(question))

    async def directives(self, request: web.Request) -> web.Response:
        return _json({"directives": self._active()})

    async def metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        why = self._gatekeeper.ready()
        return web.Response(text=f"{why or 'ready'}\n", status=200 if why is None else 503)


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What is not answered, said in one form."""
    try:
        return await handler(request)
    except Refused as error:
        return _problem(error.status, error.detail, error.headers)
    except Busy:
        return _problem(HTTPStatus.TOO_MANY_REQUESTS, "too many requests at once", {"Retry-After": "1"})
    except NotReady as error:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "1"})
    except web.HTTPRequestEntityTooLarge:
        return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MOST_BYTES} bytes", {})
    except web.HTTPException as error:
        return _problem(
            HTTPStatus(error.status), error.reason, {k: v for k, v in error.headers.items() if k == "Allow"}
        )


def _guard(token: bytes | None) -> Any:
    """Ask for the token, where there is one, of whatever is not a page that watches."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token is not None and request.path.startswith("/v1/"):
            given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode(errors="surrogateescape")
            if not hmac.compare_digest(given, token):
                raise Refused(
                    HTTPStatus.UNAUTHORIZED, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"}
                )
        return await handler(request)

    return guard


async def _body(request: web.Request) -> bytes:
    if request.content_type != _JSON:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the content type is {request.content_type}, not {_JSON}")
    try:
        async with asyncio.timeout(_READ_SECONDS):
            body = await request.read()
    except TimeoutError as error:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"the request has not come within {_READ_SECONDS:g} s") from error
    if len(body) > MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(MOST_BYTES, len(body))
    if too_deep(body):
        raise Refused(HTTPStatus.BAD_REQUEST, f"nesting above {MAX_NESTING}")
    return body


def _trace_id(request: web.Request) -> str | None:
    found = request.headers.get("traceparent")
    return None if found is None else trace_id([("traceparent", found.encode(errors="replace"))])


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=_JSON)


def _problem(status: HTTPStatus, detail: str, headers: dict[str, str]) -> web.Response:
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return web.Response(
        text=json.dumps(body), status=status.value, content_type="application/problem+json", headers=headers
    )
