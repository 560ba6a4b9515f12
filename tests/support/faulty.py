"""A way to Alertmanager that can be made slow, broken, or cut, while it is in use."""

import asyncio
import threading

import aiohttp
from aiohttp import web

from app.broker import free_port


class FaultyWay:
    """A proxy on loopback. `mode` is `open`, `cut` (no answer), `slow` (by `delay_seconds`) or a status to answer."""

    def __init__(self, target: str):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mode: str | int = "open"
        self.delay_seconds = 10.0
        self.requests = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _serve(self):
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", self._pass)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _pass(self, request):
        self.requests += 1
        body = await request.read()
        if self.mode == "cut":
            request.transport.abort()
            return web.Response()
        if isinstance(self.mode, int):
            return web.Response(status=self.mode, text="broken on purpose")
        if self.mode == "slow":
            await asyncio.sleep(self.delay_seconds)
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self._target + request.path_qs, data=body, headers=headers) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")


class Webhook:
    """A receiver that keeps every notification it is sent."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.told = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()

    __enter__ = FaultyWay.__enter__
    __exit__ = FaultyWay.__exit__
    _run = FaultyWay._run

    async def _serve(self):
        app = web.Application()
        app.add_routes([web.post("/{path:.*}", self._keep)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _keep(self, request):
        self.told.append(await request.json())
        return web.Response()
