"""The policy engine: in this process for checks at a desk, in one of its own where rules must not stop the world.

The engine holds the interpreter lock while it evaluates and its binding has no time limit, so a rule that loops would
stop the worker, its pages and its heartbeats, and only a process can be stopped. There the answer is waited for until a
deadline; then the process is killed, the verdict is an error (and so deny), and one of two spare ones takes over.
"""

import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from importlib.metadata import version
from typing import IO, Any, Final

import msgspec
import regorus

from app.core.policy import DECISION, Pack, PolicyError
from app.errors import SettingError

#: An evaluation that takes longer is one that does not end. The verdict is due within a quarter of a second.
DEADLINE_SECONDS: Final = 0.15
#: What decides, as decision records name it.
LABELS: Final = {
    "app": "qethics",
    "version": version("qethics"),
    "engine": f"gordon-to-regorus {version('gordon-to-regorus')}",
}
#: The time a process has to read the rules.
_START_SECONDS: Final = 20.0
#: So many time-outs within so long, and the engine rests: a rule that loops for every input must not stop the stream.
_TIMEOUTS: Final = 3
_WITHIN_SECONDS: Final = 10.0
REST_SECONDS: Final = 10.0
_MOST_ANSWER_BYTES: Final = 2**24


class Inline:
    """Rules in this process. The engine is bound to the thread that made it, and nothing limits its time.

    Parameters
    ----------
    modules
        File name -> Rego source.
    data
        The document the rules see as `data`.

    Raises
    ------
    PolicyError
        If a module does not parse, or the data does not fit.
    """

    def __init__(self, modules: Mapping[str, str], data: Mapping[str, Any]) -> None:
        self.engine = regorus.Engine()
        try:
            for name, source in sorted(modules.items()):
                self.engine.add_policy(name, source)
            self.engine.add_data_json(msgspec.json.encode(data).decode())
        except RuntimeError as error:
            raise PolicyError(said(error)) from error

    def __call__(self, document: bytes) -> bytes:
        """The decision on an input document, both as JSON.

        Raises
        ------
        PolicyError
            If there is none.
        """
        return self.ask(DECISION, document)

    def ask(self, path: str, document: bytes) -> bytes:
        """The value of a rule on an input document."""
        try:
            self.engine.set_input_json(document.decode())
            return self.engine.eval_rule_as_json(path).encode()
        except (RuntimeError, UnicodeDecodeError) as error:
            raise PolicyError(said(error)) from error


def said(error: Exception) -> str:
    """The engine adds a stack of its own, which says nothing to whoever wrote the rule."""
    return str(error).partition("Stack backtrace")[0].strip()


class _Gone(PolicyError):
    """The process has ended, or is where nobody knows what it will answer."""


class _Child:
    """One process; it has the rules, which it reads from a file, when it has answered for the first time."""

    def __init__(self, rules: IO[bytes]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, and a number
            [sys.executable, "-m", "app.policy.child", str(rules.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[rules.fileno()],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        self._ready = False

    def ask(self, path: str, document: bytes, deadline: float) -> bytes:
        """The value of a rule.

        Raises
        ------
        PolicyError
            If the engine says that something is wrong.
        TimeoutError
            If there is no answer by `deadline` (of `time.monotonic`).
        """
        self.ready()
        self._write(path.encode() + b"\n" + document)
        return self._read(deadline)

    def ready(self) -> None:
        """Wait until the process has read the rules.

        Raises
        ------
        PolicyError
            If it cannot use them.
        """
        if not self._ready:
            try:
                self._read(time.monotonic() + _START_SECONDS)
            except TimeoutError as error:
                raise PolicyError(f"the policy engine has not read the rules within {_START_SECONDS:g} s") from error
            self._ready = True

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._process.pid

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._pipe("stdin"), self._pipe("stdout")):
            pipe.close()

    def _pipe(self, name: str) -> IO[bytes]:
        pipe: IO[bytes] = getattr(self._process, name)
        return pipe

    def _write(self, frame: bytes) -> None:
        try:
            self._pipe("stdin").write(len(frame).to_bytes(4, "big") + frame)
            self._pipe("stdin").flush()
        except (BrokenPipeError, ValueError) as error:
            raise _Gone("the policy engine's process has ended") from error

    def _read(self, deadline: float) -> bytes:
        length = int.from_bytes(self._exactly(4, deadline), "big")
        if not 1 <= length <= _MOST_ANSWER_BYTES:
            raise _Gone(f"the policy engine answered {length} bytes")
        answer = self._exactly(length, deadline)
        if answer[:1] != b"+":
            raise PolicyError(answer[1:].decode(errors="replace"))
        return answer[1:]

    def _exactly(self, count: int, deadline: float) -> bytes:
        descriptor = self._pipe("stdout").fileno()
        found = bytearray()
        while len(found) < count:
            ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0.0))
            if not ready:
                raise TimeoutError
            piece = os.read(descriptor, count - len(found))
            if not piece:
                raise _Gone("the policy engine's process has ended")
            found += piece
        return bytes(found)


class Evaluator:
    """Rules in a process of their own.

    Parameters
    ----------
    modules
        File name -> Rego source.
    data
        The document the rules see as `data`.
    deadline_seconds
        The longest an evaluation may take, > 0.

    Raises
    ------
    PolicyError
        If the rules do not parse.
    """

    def __init__(
        self, modules: Mapping[str, str], data: Mapping[str, Any], *, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        # A file, because a pipe takes 64 KiB and then waits for the reader.
        self._rules = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as processes are started
        self._rules.write(msgspec.json.encode({"modules": modules, "data": data}))
        self._rules.flush()
        self._deadline_seconds = deadline_seconds
        self._timeouts: deque[float] = deque(maxlen=_TIMEOUTS)
        self._rests_until = 0.0
        self._child = _Child(self._rules)
        # As many as it takes until the engine rests: whoever asks after a time-out does not wait for a start.
        self._spares = deque(_Child(self._rules) for _ in range(_TIMEOUTS - 1))
        self._child.ready()

    def ready(self) -> None:
        """Wait until the spare processes have read the rules as well."""
        for child in self._spares:
            child.ready()

    @classmethod
    def of(cls, pack: Pack) -> "Evaluator":
        """An evaluator of a pack.

        Raises
        ------
        SettingError
            If the engine cannot use the rules.
        """
        try:
            return cls(pack.modules, pack.data)
        except PolicyError as error:
            raise SettingError(
                f"the rules cannot be used: {error}", "correct them; `qethics policy test` says where"
            ) from error

    def __call__(self, document: bytes) -> bytes:
        """The decision on an input document, both as JSON.

        Raises
        ------
        PolicyError
            If there is none: something is wrong with the document, or the time is up.
        """
        return self.ask(DECISION, document)

    def ask(self, path: str, document: bytes) -> bytes:
        """The value of a rule on an input document, within the same deadline."""
        now = time.monotonic()
        if now < self._rests_until:
            raise PolicyError(f"the policy engine rests after {_TIMEOUTS} time-outs")
        try:
            return self._child.ask(path, document, now + self._deadline_seconds)
        except TimeoutError as error:
            self._replace()
            self._timeouts.append(now)
            if len(self._timeouts) == _TIMEOUTS and now - self._timeouts[0] < _WITHIN_SECONDS:
                self._rests_until = now + REST_SECONDS
            raise PolicyError(f"no decision within {self._deadline_seconds:g} s") from error
        except _Gone:
            self._replace()
            raise

    @property
    def process_id(self) -> int:
        """Of the process that answers."""
        return self._child.process_id

    def _replace(self) -> None:
        """A spare one takes over, and the next spare one starts while nobody waits for it."""
        self._child.end()
        self._child = self._spares.popleft()
        self._spares.append(_Child(self._rules))

    def close(self) -> None:
        """End the processes."""
        for child in (self._child, *self._spares):
            child.end()
        self._rules.close()


class Deferred:
    """An `Evaluator` that is started when it is first asked, or told to.

    Parameters
    ----------
    modules, data
        As of `Evaluator`.
    """

    def __init__(self, modules: Mapping[str, str], data: Mapping[str, Any]) -> None:
        self._made: Evaluator | None = None
        self._closed = False
        self._rules = modules, data
        self._lock = threading.Lock()

    def start(self) -> Evaluator:
        """The evaluator.

        Raises
        ------
        PolicyError
            If the rules cannot be used, or it was closed.
        """
        with self._lock:
            if self._closed:
                raise PolicyError("the policy engine was ended")
            if self._made is None:
                self._made = Evaluator(*self._rules)
            return self._made

    def __call__(self, document: bytes) -> bytes:
        """As of `Evaluator`."""
        return self.start()(document)

    def ask(self, path: str, document: bytes) -> bytes:
        """As of `Evaluator`."""
        return self.start().ask(path, document)

    def close(self) -> None:
        """End the processes, if there are any."""
        with self._lock:
            self._closed = True
            if self._made is not None:
                self._made.close()
