"""Whom a request was meant for, and whose page sent it: what a browser may be made to do to a process on loopback.

A page of anybody can have the browser of somebody send requests to where that browser gets and the page's author does
not. With a name of their own that leads to 127.0.0.1 ("DNS rebinding") they could read the answers as well; so a
process answers to names that it knows. And what changes something is taken from no page but our own.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from aiohttp import web

from app.core.names import one_line
from app.web.refusals import JSON, Refused

#: Asked by whatever looks after processes, under whatever name it has for one; they say nothing of anybody.
PROBES: Final = frozenset({"/healthz", "/readyz"})
#: Methods that change nothing (RFC 9110, section 9.2.1); no route takes CONNECT or TRACE.
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: `Host` of RFC 9110, section 7.2, of what may be a name or an address here.
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_.-]{1,253}))(?::[0-9]{0,5})?\Z")
#: What `Sec-Fetch-Site` says of requests of our own pages, and of people's own hands
#: (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header).
_OUR_SITES: Final = frozenset({"same-origin", "none"})

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def asked_here(hosts: Collection[str]) -> Any:
    """Middleware: refuse what was sent to another host, and what another site's page would have changed.

    Parameters
    ----------
    hosts
        Names that are answered to, beside `localhost`, addresses of loopback and the address that is connected to.
    """
    known = {name.lower() for name in hosts} | {"localhost"}

    @web.middleware
    async def asked(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path not in PROBES:
            _check_host(request, known)
        if request.method not in _SAFE:
            _check_site(request)
        return await handler(request)

    return asked


@web.middleware
async def json_alone(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Middleware: refuse what would change something and is not plain JSON: no form of any page can send that.

    A packed body is refused (RFC 9110, section 15.5.16), as a few bytes may become any number of them.
    """
    if request.match_info.http_exception is None and request.method not in _SAFE:
        kind, packed = request.content_type, request.headers.get("Content-Encoding", "identity").strip()
        if kind != JSON:
            detail = f"the content type is {one_line(kind[:100])}, not {JSON}"
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
        if packed.lower() not in {"", "identity"}:
            detail = "the body is packed; send it as it is"
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, {"Accept-Encoding": "identity"})
    return await handler(request)


def _check_host(request: web.Request, known: Collection[str]) -> None:
    given = request.headers.getall("Host", [])
    if len(given) != 1:
        raise Refused(HTTPStatus.BAD_REQUEST, "a request names one host (RFC 9112, section 3.2)")
    # Of a target that is a whole address, `request.host` is the host: it counts (RFC 9112, section 3.2.2).
    for authority in (given[0], request.host):
        name = _name(authority)
        if name not in known and not _is_address_here(name, request.transport):
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"{one_line(authority[:100])} is no name of this process; QETHICS_ALLOWED_HOSTS gives it further ones",
            )


def _name(authority: str) -> str:
    """The host of an authority, in lower case; empty if it is none."""
    found = _AUTHORITY.match(authority)
    return "" if found is None else (found[1] or found[2]).lower()


def _is_address_here(name: str, transport: Any) -> bool:
    """Whether it is an address of loopback, or the one that the connection was made to."""
    bound = None if transport is None else transport.get_extra_info("sockname")
    try:
        address = _plain(name)
        return address.is_loopback or (bound is not None and address == _plain(bound[0].partition("%")[0]))
    except ValueError:
        return False


def _plain(text: str) -> Any:
    """An address; that of IPv4 in IPv6 as it is without."""
    address = ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _check_site(request: web.Request) -> None:
    """Refuse what the page of another site sends (OWASP, Cross-Site Request Forgery Prevention: verify the origin)."""
    site, origin = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Origin")
    is_foreign = origin is not None and origin.partition("://")[2].lower() != request.headers.get("Host", "").lower()
    if site.lower() not in _OUR_SITES or is_foreign:
        raise Refused(HTTPStatus.FORBIDDEN, "another site's page may change nothing here")
