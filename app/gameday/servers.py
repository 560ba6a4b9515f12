"""The real Prometheus and Alertmanager, with the shipped configuration, as child processes on loopback.

What is changed in the configuration is who is where: addresses and ports. Everything else is what users run.
"""

import http.client
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from app.broker import free_port
from app.catalog import DEFAULT_DIRECTORY
from app.errors import EnvironmentFault

DEPLOY: Final = DEFAULT_DIRECTORY.parent / "deploy"
_READY_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_REMEDY: Final = {
    "promtool": "install Debian's package `prometheus`, or put a release of Prometheus on the PATH",
    "amtool": "install Debian's package `prometheus-alertmanager`, or put a release of Alertmanager on the PATH",
    "prometheus": "install Debian's package `prometheus`, or put a release of Prometheus on the PATH",
    "alertmanager": "install Debian's package `prometheus-alertmanager`, or put a release of Alertmanager on the PATH",
}


class Server:
    """A server as a child process.

    Parameters
    ----------
    names
        What its executable may be called, the first that is there is taken.
    arguments
        Of it.
    log
        The file its output is appended to.
    port
        Where it answers on loopback.
    """

    def __init__(self, names: tuple[str, ...], arguments: list[str], log: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._command = [executable(*names), *arguments]
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises
        ------
        EnvironmentFault
            If it does not.
        """
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._log.parent
            )
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        self.stop()
        raise EnvironmentFault(f"{self._command[0]} did not come up at {self.url}", f"see {self._log}")

    def get(self, path: str) -> Any:
        """The JSON that it answers; raises what `urllib` raises."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """Tell it to stop, and wait."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def executable(*names: str) -> str:
    """The path of the first of some programs that is installed.

    Raises
    ------
    EnvironmentFault
        If none is.
    """
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    raise EnvironmentFault(f"{names[0]} is not installed", _REMEDY.get(names[-1], "install it"))


def alertmanager(directory: Path, replaced: Mapping[str, str], port: int | None = None) -> Server:
    """An Alertmanager with the shipped configuration; it keeps its state in the directory, if there is one it goes on.

    Parameters
    ----------
    directory
        Where configuration, state and log are.
    replaced
        Text of the configuration -> what stands there instead: addresses.
    port
        Where it answers; any free one without.
    """
    port = free_port() if port is None else port
    config = _shipped(DEPLOY / "alertmanager" / "alertmanager.yaml", directory / "alertmanager.yaml", replaced)
    arguments = [
        f"--config.file={config}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    return Server(("prometheus-alertmanager", "alertmanager"), arguments, directory / "alertmanager.log", port)


def prometheus(directory: Path, replaced: Mapping[str, str]) -> Server:
    """A Prometheus with the shipped configuration and rules; parameters as those of `alertmanager`."""
    port = free_port()
    shutil.copytree(DEPLOY / "prometheus" / "rules", directory / "rules")
    config = _shipped(DEPLOY / "prometheus" / "prometheus.yaml", directory / "prometheus.yaml", replaced)
    arguments = [
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    return Server(("prometheus",), arguments, directory / "prometheus.log", port)


def _shipped(source: Path, target: Path, replaced: Mapping[str, str]) -> Path:
    text = source.read_text()
    for old, new in replaced.items():
        if old not in text:
            raise EnvironmentFault(
                f"{source} does not say {old!r}", "the shipped configuration was changed; put it back"
            )
        text = text.replace(old, new)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target
