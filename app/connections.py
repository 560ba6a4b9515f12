"""Connections to a process: so many, each for so long. Nobody who sends half a request keeps others out.

aiohttp takes any number of connections and waits for the rest of a header without end. So a process accepts them
itself, counts them, and knows of each what it waits for: a request (from its first byte on, until its header is whole),
the answer to one, or nothing. Where there are as many as may be, the one that has waited longest without being answered
makes room for the next.
"""

import asyncio
import json
import logging
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

from aiohttp import web

log = logging.getLogger("qethics.http")

#: How long what is left of a request that was answered is read.
LINGER_SECONDS: Final = 1.0
#: Connections of a process; where there are few descriptors half of them, as it needs others for Kafka.
_MOST: Final = 512
_LOOK_SECONDS: Final = 0.5
_SAY_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.1
_BACKLOG: Final = 128
_MOST_REFUSED_AT_ONCE: Final = 32
_WHY: Final = json.dumps(
    {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "too many connections at once"}
).encode()
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_WHY), _WHY)
)

#: What answers a request, as aiohttp's server calls it.
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Limits(NamedTuple):
    """How many connections there may be at once, and how long each may take for what."""

    most: int
    #: Until it is made (TLS), and from the first byte of a request until its header is whole; bodies have a limit of
    #: their own (`app.web.answers.body`).
    header_seconds: float = 5.0
    #: Until a request that came is answered.
    handling_seconds: float = 60.0
    #: Until an answer is read, and another request begins.
    kept_seconds: float = 30.0


def limits() -> Limits:
    """The limits of this process."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits(_MOST if descriptors == resource.RLIM_INFINITY else min(_MOST, descriptors // 2))


class _Connection(asyncio.Protocol):
    """One connection: what it waits for, since when, and for how long at most; all else is aiohttp's."""

    def __init__(self, inner: asyncio.Protocol, of: "Connections") -> None:
        self._inner = inner
        self._of = of
        self._limits = of.limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        #: Makes it, until it is made.
        self.making: asyncio.Task[Any] | None = None
        self.is_answered = False
        self._is_idle = False
        self._wait(self._limits.header_seconds)

    def _wait(self, seconds: float) -> None:
        self.since = self._loop.time()
        self.until = self.since + seconds

    def answering(self) -> None:
        """Know that a request has come."""
        self.is_answered, self._is_idle = True, False
        self._wait(self._limits.handling_seconds)

    def answered(self) -> None:
        """Know that its answer is there, to be read."""
        self.is_answered, self._is_idle = False, True
        self._wait(self._limits.kept_seconds)

    def end(self, *, at_once: bool) -> None:
        """End it, at whatever it is; one on which nothing is under way without a reset, unless it is to be at once."""
        if (
            self._transport is not None
            and self._is_idle
            and not at_once
            and not self._transport.get_write_buffer_size()
        ):
            self._transport.close()
        elif self._transport is not None:
            self._transport.abort()
        elif self.making is not None:
            self.making.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._of.made(self, transport)
        self._wait(self._limits.header_seconds)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._is_idle:
            self._is_idle = False
            self._wait(self._limits.header_seconds)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._of.lost(self, self._transport)
        self._inner.connection_lost(error)


class Connections:
    """All connections of a process.

    Parameters
    ----------
    listener
        Where they come from.
    certificate
        With which they are made, where they are encrypted.
    limits
        How many there may be, and for how long.
    """

    def __init__(self, listener: socket.socket, certificate: ssl.SSLContext | None, limits: Limits) -> None:
        self.limits = limits
        self._listener = listener
        self._certificate = certificate
        self._open: set[_Connection] = set()
        self._by_transport: dict[Any, _Connection] = {}
        self._refused: set[socket.socket] = set()
        #: What was ended since it was last said: as it took too long, to make room, not taken at all.
        self._ended: Counter[str] = Counter()

    def watched(self, handler: Handler) -> Handler:
        """Return what answers as `handler` does, and lets it be known which connections are being answered."""

        async def watching(request: web.BaseRequest) -> web.StreamResponse:
            connection = self._by_transport.get(request.transport)
            if not request.headers.get("Expect", "").isascii():
                raise web.HTTPExpectationFailed  # aiohttp quotes what it cannot write
            if connection is None:
                return await handler(request)
            connection.answering()
            try:
                return await handler(request)
            finally:
                connection.answered()

        return watching

    async def accept(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Take connections without end; `protocol` makes what answers on one."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.error("no connection can be taken: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if self._has_room():
                connection = _Connection(protocol(), self)
                self._open.add(connection)
                connection.making = loop.create_task(self._make(connection, accepted))
            else:
                self._refuse(accepted)
            await asyncio.sleep(0)  # those who are here are answered as well, however many come

    async def watch(self) -> None:
        """End what takes too long, without end, and say now and then that it happens."""
        loop = asyncio.get_running_loop()
        said_at = loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = loop.time()
            for connection in [one for one in self._open if now > one.until]:
                self._end(connection, "too slow", at_once=False)
            if self._ended and now - said_at > _SAY_SECONDS:
                said_at = now
                log.warning("connections ended: %s", ", ".join(f"{n} {why}" for why, n in self._ended.items()))
                self._ended.clear()

    def made(self, connection: _Connection, transport: Any) -> None:
        """Know the transport of a connection."""
        self._by_transport[transport] = connection

    def lost(self, connection: _Connection, transport: Any) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._by_transport.pop(transport, None)

    async def _make(self, connection: _Connection, accepted: socket.socket) -> None:
        tls: dict[str, Any] = {}
        if self._certificate is not None:
            tls = {"ssl": self._certificate, "ssl_handshake_timeout": self.limits.header_seconds}
            tls |= {"ssl_shutdown_timeout": LINGER_SECONDS}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted, **tls)
        except (OSError, asyncio.CancelledError):  # it was ended, is gone, or speaks no TLS (`ssl.SSLError`)
            self.lost(connection, None)
            accepted.close()
        finally:
            connection.making = None

    def _has_room(self) -> bool:
        """Whether another one may come; the one that waited longest for the rest of a request goes, if need be."""
        if len(self._open) < self.limits.most:
            return True
        waiting = [one for one in self._open if not one.is_answered]
        if not waiting:
            return False
        self._end(min(waiting, key=lambda one: one.since), "to make room", at_once=True)
        return True

    def _end(self, connection: _Connection, why: str, *, at_once: bool) -> None:
        self._ended[why] += 1
        self._open.discard(connection)
        connection.end(at_once=at_once)

    def _refuse(self, accepted: socket.socket) -> None:
        """Say that there is no room, where that can be said in plain text."""
        self._ended["not taken"] += 1
        with suppress(OSError):
            if self._certificate is None and len(self._refused) < _MOST_REFUSED_AT_ONCE:
                accepted.send(_REFUSAL)
                accepted.shutdown(socket.SHUT_WR)
                # Closed at once, with a request that nobody reads, the answer would be lost (RFC 9112, section 9.6).
                self._refused.add(accepted)
                asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close, accepted)
                return
        accepted.close()

    def _close(self, refused: socket.socket) -> None:
        self._refused.discard(refused)
        refused.close()
