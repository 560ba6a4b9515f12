"""A worker or gate as a child process: started, asked through its pages, stopped."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from app.errors import EnvironmentFault
from app.settings import PREFIX, Settings

#: What a process of ours may take to become ready on a busy machine.
READY_SECONDS: Final = 60.0


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that is to run with these settings: those of our own surroundings are not its."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**inherited, **settings.environment()}


class ServiceProcess:
    """A process of our own, and what its pages say.

    Parameters
    ----------
    settings
        What it is to run with; its port must be a real one.
    log
        The file its output is appended to.
    command
        `worker`, `admission` or `pager`.
    """

    def __init__(self, settings: Settings, log: Path, command: str = "worker") -> None:
        self._command = command
        self._host, self._port = {
            "worker": (settings.web_host, settings.web_port),
            "admission": (settings.admission_host, settings.admission_port),
            "pager": (settings.pager_host, settings.pager_port),
        }[command]
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", command],
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def get(self, path: str) -> bytes | None:
        """A page of it; None while it does not answer with 200."""
        url = f"http://{self._host}:{self._port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                content: bytes = answer.read()
                return content
        except (OSError, http.client.HTTPException):  # the latter when it ends in the middle of its answer
            return None

    def status(self) -> dict[str, Any]:
        """The worker's status.

        Raises
        ------
        EnvironmentFault
            If the worker has ended.
        """
        content = self.get("/status.json")
        if content is None:
            self.check()
            return {}
        found: dict[str, Any] = json.loads(content)
        return found

    def check(self) -> None:
        """Raise if it has ended."""
        if self.process.poll() is not None:
            tail = self._log.read_text(errors="replace").strip().splitlines()[-3:]
            raise EnvironmentFault(
                f"the {self._command} ended with code {self.process.returncode}: {' / '.join(tail)}", f"see {self._log}"
            )

    def await_ready(self) -> None:
        """Wait until it is ready; raises as `await_` does."""
        self.await_(lambda: self.get("/readyz") is not None, f"the {self._command} was not ready")

    def await_(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Wait for something that it is to bring about.

        Parameters
        ----------
        condition
            Whether it is so.
        otherwise
            What is said if it does not become so.

        Raises
        ------
        EnvironmentFault
            If it has ended, or the time is over.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise EnvironmentFault(f"{otherwise} within {READY_SECONDS:.0f} s", "try again on a quieter machine")
            time.sleep(0.1)

    def stop(self) -> None:
        """Tell it to stop, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
