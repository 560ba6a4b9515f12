"""What pages that are written to have in common: what is refused and how that is said, the token, bodies, metrics."""

import asyncio
import base64
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from app.core.decode import MAX_NESTING, too_deep

#: 1 MiB, as everywhere.
MOST_BYTES: Final = 2**20
_READ_SECONDS: Final = 2.0
_JSON: Final = "application/json"

#: What is not open to everybody where there is a token: what programs ask for, and pages for people, whose browsers
#: send it as the password of any user (RFC 7617).
_FOR_PROGRAMS: Final = "/v1/"
_FOR_PEOPLE: Final = "/runs/"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A request that is not answered, with its status and why (RFC 9457)."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: what is not answered, said in one form."""
    try:
        return await handler(request)
    except Refused as error:
        return _problem(error.status, error.detail, error.headers)
    except web.HTTPRequestEntityTooLarge:
        return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MOST_BYTES} bytes", {})
    except web.HTTPException as error:
        allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
        return _problem(HTTPStatus(error.status), error.reason, allowed)


def guard(token: bytes | None) -> Any:
    """Middleware: ask for the token (RFC 6750), where there is one, of whatever is not a page that watches."""

    @web.middleware
    async def asked(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_for_people = request.path.startswith(_FOR_PEOPLE)
        if token is not None and (is_for_people or request.path.startswith(_FOR_PROGRAMS)):
            given = _token(request.headers.get("Authorization", ""), is_for_people=is_for_people)
            if not hmac.compare_digest(given, token):
                way = 'Basic realm="qethics", charset="UTF-8"' if is_for_people else "Bearer"
                detail = "the bearer token is missing or wrong"
                raise Refused(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": way})
        return await handler(request)

    return asked


def _token(header: str, *, is_for_people: bool) -> bytes:
    """The token that an Authorization header carries; empty if none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.encode(errors="surrogateescape")
    if scheme.lower() == "basic" and is_for_people:
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""


async def body(request: web.Request) -> bytes:
    """The JSON body of a request, not yet decoded.

    Raises
    ------
    Refused
        If it is no JSON by its type, too large, too slow or nested too deeply.
    """
    if request.content_type != _JSON:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the content type is {request.content_type}, not {_JSON}")
    try:
        async with asyncio.timeout(_READ_SECONDS):
            found = await request.read()
    except TimeoutError as error:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"the request has not come within {_READ_SECONDS:g} s") from error
    if len(found) > MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(MOST_BYTES, len(found))
    if too_deep(found):
        raise Refused(HTTPStatus.BAD_REQUEST, f"nesting above {MAX_NESTING}")
    return found


def json_answer(value: Any) -> web.Response:
    """A value as JSON."""
    return web.Response(body=msgspec.json.encode(value), content_type=_JSON)


def metrics_page(registry: CollectorRegistry) -> Handler:
    """The page `/metrics` of a registry, in the format that is asked for."""

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    return metrics


async def healthz(request: web.Request) -> web.Response:
    """The page `/healthz`: the process runs."""
    return web.Response(text="ok\n")


def _problem(status: HTTPStatus, detail: str, headers: Mapping[str, str]) -> web.Response:
    said = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return web.Response(
        text=json.dumps(said), status=status.value, content_type="application/problem+json", headers=headers
    )
