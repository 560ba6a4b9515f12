"""What the pages of all processes have in common: what stands before them, the token, bodies, metrics."""

import asyncio
import base64
import hmac
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from app.core.decode import MAX_NESTING, too_deep
from app.web.origin import PROBES, asked_here, json_alone
from app.web.refusals import JSON, MOST_BYTES, Handler, Refused, refusals

_READ_SECONDS: Final = 2.0
#: A version of a format that is none: it would be repeated in the answer's header, or cannot be compared.
_NO_VERSION: Final = re.compile(r"version=(?![0-9]{1,3}(?:\.[0-9]{1,3}){0,2}\s*(?:[;,]|\Z))")
#: Looked at in well under a millisecond.
_SMALL_BYTES: Final = 2**14
_BESIDE: Final = ThreadPoolExecutor(1, "large-bodies")

#: Open to everybody, token or not: what says nothing of anybody, and what is in the documentation.
_OPEN: Final = PROBES | {"/metrics"}
_RUNBOOKS: Final = "/runbooks/"
#: All other pages are for people as well, whose browsers send the token as the password of any user (RFC 7617).
_FOR_PROGRAMS: Final = "/v1/"


def middlewares(token: bytes | None, hosts: Collection[str]) -> list[Any]:
    """What stands before every page of every process, the outermost first.

    Parameters
    ----------
    token
        What a request must carry as a bearer token (RFC 6750), if anything.
    hosts
        Names of the process, beside those of loopback and its address.
    """
    return [refusals, asked_here(hosts), guard(token), json_alone]


def guard(token: bytes | None) -> Any:
    """Middleware: ask for the token (RFC 6750), where there is one, for all but the pages that watch and runbooks."""

    @web.middleware
    async def asked(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_for_people = not request.path.startswith(_FOR_PROGRAMS)
        if token is not None and request.path not in _OPEN and not request.path.startswith(_RUNBOOKS):
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
        If it is too large, too slow, cannot be unpacked, is no UTF-8 or is nested too deeply.
    """
    try:
        async with asyncio.timeout(_READ_SECONDS):
            found = await request.read()
    except TimeoutError as error:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"the request has not come within {_READ_SECONDS:g} s") from error
    except web.RequestPayloadError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is not what its headers say it is") from error
    if len(found) > MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(MOST_BYTES, len(found))
    try:
        found.decode()
    except UnicodeDecodeError as error:
        detail = f"JSON is UTF-8 (RFC 8259, section 8.1), and byte {error.start} is not: {error.reason}"
        raise Refused(HTTPStatus.BAD_REQUEST, detail) from error
    if await _too_deep(found):
        raise Refused(HTTPStatus.BAD_REQUEST, f"nesting above {MAX_NESTING}")
    return found


async def _too_deep(text: bytes) -> bool:
    """`too_deep`; of large texts one after the other and beside the loop, so that many keep nobody waiting."""
    if len(text) <= _SMALL_BYTES:
        return too_deep(text)
    return await asyncio.get_running_loop().run_in_executor(_BESIDE, too_deep, text)


def json_answer(value: Any) -> web.Response:
    """A value as JSON."""
    return web.Response(body=msgspec.json.encode(value), content_type=JSON)


def metrics_page(registry: CollectorRegistry) -> Handler:
    """The page `/metrics` of a registry, in the format that is asked for."""

    async def metrics(request: web.Request) -> web.Response:
        asked = request.headers.get("Accept", "")
        encode, content_type = choose_encoder("" if _NO_VERSION.search(asked) else asked)
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    return metrics


async def healthz(request: web.Request) -> web.Response:
    """The page `/healthz`: the process runs."""
    return web.Response(text="ok\n")
