"""The policy engine: in this process for checks at a desk, in one of its own where rules must not stop the world.

The engine holds the interpreter lock while it evaluates and its binding has no time limit, so a rule that loops would
stop the worker, its pages and its heartbeats, and only a process can be stopped. There the answer is waited for until a
deadline; then the process is killed, the verdict is an error (and so deny), and one of two spare ones takes over. The
same becomes of a process that dies or answers nonsense, whenever it does, and of one that cannot be started.
"""

import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import IO, Any, Final

import msgspec

from app.core.evaluating import DECISION, PolicyError
from app.core.policy import Pack
from app.errors import EnvironmentFault, SettingError
from app.policy.engine import COMMAND, EngineFault, EngineLate, EngineProcess

log = logging.getLogger("qethics.policy")

#: An evaluation that takes longer is one that does not end. The verdict is due within a quarter of a second.
DEADLINE_SECONDS: Final = 0.15
#: What decides, as decision records name it.
LABELS: Final = {
    "app": "qethics",
    "version": version("qethics"),
    "engine": f"gordon-to-regorus {version('gordon-to-regorus')}",
}
#: So many time-outs within so long, and the engine rests: a rule that loops for every input must not stop the stream.
#: Processes that end before they have answered anything count as well.
_FAILURES: Final = 3
_WITHIN_SECONDS: Final = 10.0
REST_SECONDS: Final = 10.0
#: One that answers, and spare ones.
_PROCESSES: Final = _FAILURES
#: One that could not be started is started so much later, when something is asked.
START_AGAIN_SECONDS: Final = 1.0


class Evaluator:
    """Rules in a process of their own. It may be asked from several threads; one waits for the other.

    Parameters
    ----------
    modules
        File name -> Rego source.
    data
        The document the rules see as `data`.
    deadline_seconds
        The longest an evaluation may take, > 0.
    command
        What a process is started with.

    Raises
    ------
    PolicyError
        If the rules do not parse.
    EngineFault
        If no process can be started.
    """

    def __init__(
        self,
        modules: Mapping[str, str],
        data: Mapping[str, Any],
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._rules = _file_of(modules, data)
        self._command = command
        self._deadline_seconds = deadline_seconds
        self._failures: deque[float] = deque(maxlen=_FAILURES)
        self._rests_until = 0.0
        #: Where a process could not be started: not before then again.
        self._start_at = 0.0
        self._lock = threading.Lock()
        self._closed = False
        # The first answers; the others take over. As many as it takes until the engine rests: whoever asks after a
        # time-out does not wait for a start.
        self._processes: deque[EngineProcess] = deque()
        try:
            self._processes.append(EngineProcess(self._rules, command))
            self._start_missing()
            self._processes[0].ready()
        except PolicyError:
            self.close()
            raise

    def ready(self) -> None:
        """Wait until the spare processes have read the rules as well."""
        for process in self._processes:
            process.ready()

    @classmethod
    def of(cls, pack: Pack) -> "Evaluator":
        """An evaluator of a pack.

        Raises
        ------
        SettingError
            If the engine cannot use the rules.
        EnvironmentFault
            If it cannot be started.
        """
        try:
            return cls(pack.modules, pack.data)
        except EngineFault as error:
            raise EnvironmentFault(str(error), "see that there are memory, processes and descriptors for it") from error
        except PolicyError as error:
            raise SettingError(
                f"the rules cannot be used: {error}", "correct them; `qethics policy test` says where"
            ) from error

    def __call__(self, document: bytes) -> bytes:
        """The decision on an input document, both as JSON.

        Raises
        ------
        PolicyError
            If there is none: something is wrong with the document or the process, or the time is up.
        """
        return self.ask(DECISION, document)

    def ask(self, path: str, document: bytes) -> bytes:
        """The value of a rule on an input document, within the same deadline."""
        with self._lock:
            now = time.monotonic()
            if now < self._rests_until:
                raise PolicyError(f"the policy engine rests after {_FAILURES} time-outs or processes that ended")
            process = self._at_hand()
            try:
                return process.ask(path, document, self._deadline_seconds)
            except EngineLate as error:
                self._replace(process, counts=True)
                raise PolicyError(f"no decision within {self._deadline_seconds:g} s") from error
            except EngineFault:
                # One that had answered before was killed by somebody; one that never did may be so by what is asked.
                self._replace(process, counts=not process.has_answered)
                raise
            except PolicyError:
                raise  # the engine's own word; it can be asked again
            except BaseException:
                self._replace(process, counts=False)  # we stopped halfway: the next answer would be that to this one
                raise

    @property
    def process_id(self) -> int | None:
        """Of the process that answers; None while there is none."""
        return self._processes[0].process_id if self._processes else None

    def _at_hand(self) -> EngineProcess:
        """The process that is to answer: the first that has not died while it was a spare one."""
        while len(self._processes) > 1 and not self._processes[0].has_answered and not self._processes[0].is_alive:
            self._processes.popleft().end()
        if len(self._processes) < _PROCESSES:
            self._start_missing()
        if not self._processes:
            raise EngineFault("the policy engine's process could not be started; that is tried again every second")
        return self._processes[0]

    def _replace(self, process: EngineProcess, *, counts: bool) -> None:
        """A spare one takes over, and the next spare one starts while nobody waits for it."""
        process.end()
        self._processes.remove(process)
        now = time.monotonic()
        if counts:
            self._failures.append(now)
            if len(self._failures) == _FAILURES and now - self._failures[0] < _WITHIN_SECONDS:
                self._rests_until = now + REST_SECONDS
        self._start_missing()

    def _start_missing(self) -> None:
        """Start what is missing; what cannot be started now is tried again later."""
        while not self._closed and len(self._processes) < _PROCESSES and time.monotonic() >= self._start_at:
            try:
                self._processes.append(EngineProcess(self._rules, self._command))
            except EngineFault as error:
                self._start_at = time.monotonic() + START_AGAIN_SECONDS
                log.error("%s", error)

    def close(self) -> None:
        """End the processes."""
        self._closed = True
        for process in list(self._processes):
            process.kill()  # whoever waits for an answer gets none, and lets go of the lock
        with self._lock:
            while self._processes:
                self._processes.popleft().end()
            with suppress(OSError):
                self._rules.close()


def _file_of(modules: Mapping[str, str], data: Mapping[str, Any]) -> IO[bytes]:
    """Rules and data as a process reads them. A file, because a pipe takes 64 KiB and then waits for the reader."""
    try:
        rules: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open while processes are started
        left = memoryview(msgspec.json.encode({"modules": modules, "data": data}))
        while left:
            left = left[rules.write(left) :]
    except OSError as error:
        raise EngineFault(f"the policy engine's rules cannot be written to a file: {error}") from error
    return rules


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
        #: Why it could not be started, and when that was.
        self._failed = "", float("-inf")

    def start(self) -> Evaluator:
        """The evaluator.

        Raises
        ------
        PolicyError
            If the rules cannot be used, it cannot be started (tried again after a second), or it was closed.
        """
        with self._lock:
            if self._closed:
                raise PolicyError("the policy engine was ended")
            if self._made is None:
                why, at = self._failed
                if time.monotonic() - at < START_AGAIN_SECONDS:
                    raise PolicyError(why)
                try:
                    self._made = Evaluator(*self._rules)
                except PolicyError as error:
                    self._failed = str(error), time.monotonic()
                    raise
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
