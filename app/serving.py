"""What processes that serve have in common: a port, quiet libraries, and work that never ends by itself."""

import asyncio
import gc
import logging
import platform
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from app.connections import LINGER_SECONDS, Connections, Limits, limits
from app.core.names import one_line
from app.core.seal import UNSEALED, Seal
from app.errors import EnvironmentFault, SettingError
from app.settings import Settings
from app.stream.shell import fail_stop

#: Time between two collections of reference cycles; one takes a millisecond, whatever is open.
CYCLES_SECONDS: Final = 30.0


def build_info() -> dict[str, str]:
    """What identifies this build."""
    names = {"qethics": "version", "faust-streaming": "faust", "aiokafka": "aiokafka"}
    found = {label: version(package) for package, label in names.items()}
    return {**found, "python": platform.python_version()}


def forever(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Work without end; should it fail, the process ends at once and says why."""
    started = asyncio.ensure_future(work)

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            fail_stop(error)

    started.add_done_callback(ended)
    return started


async def collect_cycles(seconds: float = CYCLES_SECONDS) -> None:
    """Collect reference cycles every so many seconds, without end; for a process that has raised its thresholds.

    Where most objects go by themselves, the thresholds are not reached for hours, and meanwhile the cycles of clients
    stay: the partitions that a consumer was assigned hold all that was fetched of them.
    """
    while True:
        await asyncio.sleep(seconds)
        gc.collect()


def told_to_stop() -> asyncio.Event:
    """What is set when this process is told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def listening(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket; bound before anything else is started, so that a taken port is known at once.

    Raises
    ------
    EnvironmentFault
        If it cannot listen there; the error names the setting of the port.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise EnvironmentFault(
            f"cannot listen on {host}:{port}: {error.strerror}",
            f"end what uses the port, or set QETHICS_{setting.upper()} to another; 0 takes any free one",
        ) from error
    return listener


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    """Whether it is about something else than what is no HTTP: that is answered with 400, and could fill any log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


async def serve(
    pages: web.Application,
    listener: socket.socket,
    certificate: ssl.SSLContext | None = None,
    limited: Limits | None = None,
) -> Callable[[], Awaitable[None]]:
    """Answer on a listening socket, so many connections at once and each for so long; returns what ends it."""
    logging.getLogger("aiohttp.server").addFilter(_is_no_bad_request)
    connections = Connections(listener, certificate, limited := limited or limits())
    # What waits for a request is ended by `Connections`; aiohttp's own limit counts from another moment. Nothing is
    # unpacked: a few bytes may become any number of them.
    kept = 2 * limited.kept_seconds
    runner = web.AppRunner(
        pages, access_log=None, keepalive_timeout=kept, lingering_time=LINGER_SECONDS, auto_decompress=False
    )
    await runner.setup()
    if (server := runner.server) is None:
        raise RuntimeError("a runner that was set up has no server")
    server.request_handler = connections.watched(server.request_handler)
    tasks = [forever(connections.accept(server)), forever(connections.watch())]

    async def stop() -> None:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()

    return stop


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """What `/metrics` shows: what is given, and the CPU, memory and files of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    return registry


class OneLine(logging.Formatter):
    """Writes a message as one line, whatever it holds: a line that begins with a time was written by us.

    The lines of a traceback, which may hold texts from outside too, are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the indented traceback if there is one."""
        first = f"{self.formatTime(record)} {record.levelname} {record.name}: {one_line(record.getMessage())}"
        if not record.exc_info:
            return first
        lines = self.formatException(record.exc_info).splitlines()
        return "\n".join([first, *(f"    {one_line(line)}" for line in lines)])


def quiet_libraries(level: str) -> None:
    """One line a message on standard error; libraries speak up only when something is wrong."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[lines], force=True)
    for name in ("aiokafka", "faust", "mode", "kafka"):
        logging.getLogger(name).setLevel(logging.ERROR)


def secret(path: Path | None, setting: str) -> bytes | None:
    """What a file holds that names a secret; None without a file.

    Raises
    ------
    SettingError
        If it cannot be read or is empty; the error names the setting.
    """
    if path is None:
        return None
    try:
        found = path.read_bytes().strip()
    except OSError as error:
        raise SettingError(f"QETHICS_{setting.upper()}: {error}", "name a readable file") from error
    if not found:
        raise SettingError(f"QETHICS_{setting.upper()}: {path} is empty", "write the secret into it")
    return found


def seal_of(settings: Settings) -> Seal:
    """Return the seal of control records that the settings name; one that seals nothing where they name none.

    Raises
    ------
    SettingError
        If the file cannot be read, is empty, or holds a key that is too short.
    """
    found = secret(settings.control_key_file, "control_key_file")
    if found is None:
        return UNSEALED
    try:
        return Seal([key for line in found.splitlines() if (key := line.strip())])
    except ValueError as error:
        raise SettingError(f"QETHICS_CONTROL_KEY_FILE: {error}", "openssl rand -hex 32 makes one") from error


def own_directory(directory: Path) -> Path:
    """The directory of one process, made and known to be writable.

    Raises
    ------
    EnvironmentFault
        If it is not.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write to {directory}: {error.strerror}",
            "make it writable, or set QETHICS_DATA_DIRECTORY to a directory that is",
        ) from error
    return directory
