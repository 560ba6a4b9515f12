"""Connections to a process: whoever sends half of anything is dropped, and keeps nobody out who sends the whole."""

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from mutated import answered, statuses

from app.connections import Limits, limits
from app.serving import listening, serve

WHOLE = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
KEPT = WHOLE.replace(b"close", b"keep-alive")
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: "
QUICK = Limits(16, header_seconds=0.5, handling_seconds=2.0, kept_seconds=0.5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*made, *names, "-keyout", "key.pem", "-out", "cert.pem"], cwd=directory, check=True, stderr=-3)
    return directory / "cert.pem", directory / "key.pem"


class Server:
    """A page that waits until it is told to answer, where it is asked to, and what is asked of it meanwhile."""

    def __init__(self):
        self.begun, self.go_on = asyncio.Semaphore(0), asyncio.Event()
        self.pages = web.Application()
        self.pages.add_routes([web.get("/", self.page), web.get("/slow", self.slow), web.get("/large", self.large)])

    async def page(self, request):
        return web.Response(text="here")

    async def slow(self, request):
        self.begun.release()
        await self.go_on.wait()
        return web.Response(text="here")

    async def large(self, request):
        return web.Response(body=b"x" * 64 * 2**20)


@asynccontextmanager
async def serving(limited, context=None):
    server = Server()
    with listening("127.0.0.1", 0, "web_port") as listener:
        stop = await serve(server.pages, listener, context, limited)
        try:
            server.port = listener.getsockname()[1]
            yield server
        finally:
            server.go_on.set()
            await stop()


async def opened(port, *sent):
    """Connections with some bytes sent on each."""
    found = []
    for data in sent:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        found.append((reader, writer))
    return found


async def ended(reader):
    """What comes until the other side has ended the connection."""
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""


def descriptors():
    """Of this process, which is both sides."""
    return len(os.listdir("/proc/self/fd"))


HALVES = {"nothing": b"", "a letter": b"G", "half a header": HALF, "a method": b"POST "}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_half_a_request_is_dropped_in_time(half):
    async def asked():
        async with serving(QUICK) as server:
            began = asyncio.get_running_loop().time()
            ((reader, _),) = await opened(server.port, half)
            assert await ended(reader) == b""
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(asked()) >= QUICK.header_seconds


def test_a_request_that_comes_by_drops_is_dropped_too():
    async def asked():
        async with serving(QUICK) as server:
            ((reader, writer),) = await opened(server.port, HALF)

            async def drip():
                while True:
                    writer.write(b"a")
                    await asyncio.sleep(0.05)

            dripping = asyncio.ensure_future(drip())
            assert await ended(reader) == b""
            dripping.cancel()

    asyncio.run(asked())


def test_what_is_kept_open_serves_again_and_ends_when_nothing_comes():
    async def asked():
        async with serving(QUICK) as server:
            ((reader, writer),) = await opened(server.port, KEPT)
            await reader.readuntil(b"here")
            writer.write(KEPT)
            await reader.readuntil(b"here")
            assert await ended(reader) == b""
            ((reader, writer),) = await opened(server.port, KEPT)
            await reader.readuntil(b"here")
            writer.write(HALF)
            assert await ended(reader) == b""

    asyncio.run(asked())


def test_half_sent_requests_keep_no_whole_one_out_and_take_few_descriptors():
    async def asked():
        async with serving(QUICK._replace(header_seconds=60.0)) as server:
            before = descriptors()
            held = await opened(server.port, *[HALF] * 200)
            for _ in range(20):
                assert statuses(await answered(server.port, WHOLE)) == [200]
            assert descriptors() - before <= len(held) + QUICK.most

    asyncio.run(asked())


def test_where_all_are_being_answered_the_next_is_refused_in_words_and_the_others_are_answered():
    async def asked():
        async with serving(QUICK._replace(handling_seconds=60.0)) as server:
            slow = WHOLE.replace(b"/ ", b"/slow ", 1)
            held = await opened(server.port, *[slow] * QUICK.most)
            for _ in held:
                await server.begun.acquire()
            refused = await answered(server.port, WHOLE)
            assert statuses(refused) == [503]
            assert b"too many connections" in refused
            assert re.search(rb"Retry-After: \d", refused)
            server.go_on.set()
            assert [statuses(await ended(reader)) for reader, _ in held] == [[200]] * QUICK.most
            assert statuses(await answered(server.port, WHOLE)) == [200]

    asyncio.run(asked())


def test_an_answer_that_nobody_reads_is_ended():
    async def asked():
        async with serving(QUICK) as server:
            before = descriptors()
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(KEPT.replace(b"/ ", b"/large ", 1))
                async with asyncio.timeout(10):
                    while descriptors() != before + 2:
                        await asyncio.sleep(0.01)
                    while descriptors() != before + 1:
                        await asyncio.sleep(0.01)

    asyncio.run(asked())


def test_over_tls_it_is_the_same_and_who_speaks_none_is_dropped(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    client = ssl.create_default_context(cafile=certificate[0])

    async def asked():
        async with serving(QUICK, context) as server:
            halves = await opened(server.port, b"", b"\x16\x03\x01", WHOLE, *[b"\x16\x03\x01\x02\x00\x01"] * 40)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
            writer.write(WHOLE)
            assert statuses(await reader.read()) == [200]
            for half, _ in halves:
                assert b"HTTP" not in await ended(half)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
            writer.write(HALF)
            assert await ended(reader) == b""

    asyncio.run(asked())


def test_a_process_with_few_descriptors_takes_half_of_them():
    few = "from resource import *; setrlimit(RLIMIT_NOFILE, (300, 300)); "
    count = few + "from app.connections import limits; print(limits().most)"
    done = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 150
    assert limits().header_seconds <= 5
