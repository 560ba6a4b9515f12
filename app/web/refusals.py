"""What is not answered, said in one form (RFC 9457); and what no answer goes without."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

log = logging.getLogger("qethics.http")

#: 1 MiB, as everywhere.
MOST_BYTES: Final = 2**20
JSON: Final = "application/json"
#: No answer is taken for another type, shown inside another page, or kept; no page of ours runs a script or loads
#: anything (https://www.w3.org/TR/CSP3/).
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "qethics",
}

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
    """Middleware: what is not answered, said in one form; of what we got wrong, no more than that."""
    answer = await _answered(request, handler)
    answer.headers.update(_ALWAYS)
    return answer


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        return _problem(error.status, error.detail, error.headers)
    except web.HTTPRequestEntityTooLarge:
        return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MOST_BYTES} bytes", {})
    except web.HTTPException as error:
        allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
        return _problem(HTTPStatus(error.status), error.reason, allowed)
    except ConnectionError:
        raise  # nobody is there any more
    except Exception:
        log.exception("%s %s was not answered: this is a fault of ours", request.method, request.path)
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of ours; the log of this process has it", {})


def _problem(status: HTTPStatus, detail: str, headers: Mapping[str, str]) -> web.Response:
    said = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return web.Response(
        text=json.dumps(said), status=status.value, content_type="application/problem+json", headers=headers
    )
