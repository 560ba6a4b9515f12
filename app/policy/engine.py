"""One process of the policy engine, as who asks it sees it: it may die, hang or answer anything, at any moment.

Whatever goes wrong with it is an `EngineFault`, and the process is to be ended then: nobody knows what it answers next.
`child` is the other end and says what the frames are. Pipes are used without buffers of our own, so that nothing waits
in one for a process that has died, and are waited for with `poll`, which takes descriptors above 1023 as well.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Final, cast

import msgspec

from app.core.evaluating import PolicyError
from app.unreadable import UNREADABLE

#: What is started, with the descriptor of the rules as its last argument.
COMMAND: Final = (sys.executable, "-m", "app.policy.child")
#: The time a process has to read the rules.
START_SECONDS: Final = 20.0
_END_SECONDS: Final = 1.0
_MOST_ANSWER_BYTES: Final = 2**24
_PIECE_BYTES: Final = 2**16
#: Of the length of a frame, and of the number of a question.
_HEAD_BYTES: Final = 4
_NUMBERS: Final = 2**32
#: All that can be wrong with a process, its pipes and what comes out of them, short of a bug of ours: also that there
#: are no descriptors, processes or memory left for it.
_FAULTS: Final = (OSError, EOFError, MemoryError, *UNREADABLE)


class EngineFault(PolicyError):
    """The process cannot be started, has ended, or is where nobody knows what it will answer."""


class EngineLate(EngineFault):
    """The process did not answer in time."""


class EngineProcess:
    """A process that evaluates rules; it has read them when it has answered for the first time.

    Parameters
    ----------
    rules
        The file it reads them from.
    command
        What is started.

    Raises
    ------
    EngineFault
        If it cannot be started.
    """

    def __init__(self, rules: IO[bytes], command: Sequence[str] = COMMAND) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, and a number
                [*command, str(rules.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[rules.fileno()],
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )
            self._questions = cast(IO[bytes], self._process.stdin)
            self._answers = cast(IO[bytes], self._process.stdout)
            os.set_blocking(self._questions.fileno(), False)
        except _FAULTS as error:
            raise EngineFault(f"the policy engine's process cannot be started: {_said(error)}") from error
        self._ready = False
        self._number = 0
        #: Whether it has answered a question.
        self.has_answered = False

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ready(self) -> None:
        """Wait until the process has read the rules.

        Raises
        ------
        PolicyError
            If it cannot use them.
        EngineFault
            If it does not say so.
        """
        if not self._ready:
            try:
                self._checked(b"", START_SECONDS)
            except EngineLate as error:
                raise EngineFault(f"the policy engine has not read the rules within {START_SECONDS:g} s") from error
            self._ready = True

    def ask(self, path: str, document: bytes, seconds: float) -> bytes:
        """The value of a rule.

        Parameters
        ----------
        path
            Of the rule.
        document
            The input, as JSON.
        seconds
            The time it has once it has read the rules.

        Raises
        ------
        PolicyError
            If the engine says that something is wrong; it can be asked again.
        EngineFault
            If anything is wrong with the process.
        """
        self.ready()
        self._number = (self._number + 1) % _NUMBERS
        answer = self._checked(path.encode() + b"\n" + document, seconds)
        self.has_answered = True
        return answer

    def kill(self) -> None:
        """Have the process end soon; may be called while another thread waits for its answer, which ends that."""
        with suppress(OSError):
            self._process.kill()

    def end(self) -> None:
        """End the process."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel; `subprocess` reaps it later
            self._process.wait(_END_SECONDS)
        for pipe in (self._questions, self._answers):
            with suppress(OSError):
                pipe.close()

    def _checked(self, question: bytes, seconds: float) -> bytes:
        """What it answers; empty for the word that it has read the rules. The one place where its faults are caught."""
        deadline = time.monotonic() + seconds
        number = self._number.to_bytes(_HEAD_BYTES, "big")
        try:
            if question:
                self._write(number + question, deadline)
            answer = self._read(deadline)
            if not answer.startswith(number):
                raise ValueError("it answers something else than it was asked")
            sign, value = answer[_HEAD_BYTES : _HEAD_BYTES + 1], answer[_HEAD_BYTES + 1 :]
            said = value.decode()
            if sign == b"+" and question:
                msgspec.json.decode(value, type=msgspec.Raw)
            elif sign not in (b"+", b"-"):
                raise ValueError("its answer is neither a value nor an error")
        except EngineLate:
            raise
        except _FAULTS as error:
            raise EngineFault(f"the policy engine's process cannot be used: {_said(error)}") from error
        if sign == b"-":
            raise PolicyError(said)
        return value

    def _write(self, frame: bytes, deadline: float) -> None:
        left = memoryview(len(frame).to_bytes(_HEAD_BYTES, "big") + frame)
        while left:
            _wait(self._questions, select.POLLOUT, deadline)
            left = left[os.write(self._questions.fileno(), left[:_PIECE_BYTES]) :]

    def _read(self, deadline: float) -> bytes:
        found, wanted = bytearray(), _HEAD_BYTES
        while len(found) < wanted:
            _wait(self._answers, select.POLLIN, deadline)
            piece = os.read(self._answers.fileno(), _PIECE_BYTES)
            if not piece:
                raise EOFError("it has ended")
            found += piece
            if len(found) >= _HEAD_BYTES:
                wanted = _HEAD_BYTES + int.from_bytes(found[:_HEAD_BYTES], "big")
                if wanted > _MOST_ANSWER_BYTES:
                    raise ValueError(f"it answers {wanted} bytes")
        if len(found) > wanted:
            raise ValueError("it answers more than it was asked")
        return bytes(found[_HEAD_BYTES:])


def _wait(pipe: IO[bytes], for_what: int, deadline: float) -> None:
    """Wait until a pipe can be read from or written to, or has been closed at the other end."""
    poll = select.poll()
    poll.register(pipe.fileno(), for_what)
    if not poll.poll(max(deadline - time.monotonic(), 0.0) * 1000):
        raise EngineLate("the policy engine's process does not answer")


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
