"""A process of the policy engine that goes wrong as it was told to. It is the real one, behind pipes that are not.

Each process takes one fault, with a number, out of a directory; when none is left it is the real one.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from app.core.evaluating import PolicyError
from app.policy import child

#: What can go wrong, each with what its number means.
FAULTS = (
    "dies_after_writing",  # bytes
    "dies_after_reading",  # bytes
    "garbage",  # seed
    "more_than_asked",  # bytes
    "oversized",  # bytes of length above the bound
    "no_json",  # bytes that are left of the answer
    "other_sign",  # byte
    "earlier_number",  # how much earlier
    "hangs",  # bytes it reads before
    "hangs_halfway",  # bytes of the answer before
    "exits_at_once",  # code
)


class Answers:
    """Where the process writes."""

    def __init__(self, pipe, fault, number):
        self._pipe, self._fault, self._number, self._written, self._frames = pipe, fault, number, 0, 0

    def write(self, frame):
        self._frames += 1
        changed = frame if self._frames == 1 and self._fault != "dies_after_writing" else self._wrong(frame)
        self._pipe.write(changed)
        self._pipe.flush()
        if self._fault == "dies_after_writing" and self._written >= self._number:
            os._exit(1)
        if self._fault == "hangs_halfway" and self._frames > 1:
            time.sleep(3600)

    def flush(self):
        self._pipe.flush()

    def _wrong(self, frame):
        number, length = self._number, len(frame)
        if self._fault == "dies_after_writing":
            frame = frame[: max(number - self._written, 0)]
            self._written += length
        elif self._fault == "garbage":
            frame = random.Random(number).randbytes(1 + number % 100)
        elif self._fault == "more_than_asked":
            frame += bytes(1 + number % 70_000)
        elif self._fault == "oversized":
            frame = min(2**24 + number, 2**32 - 1).to_bytes(4, "big") + frame[4:]
        elif self._fault == "no_json":
            answer = frame[4:9] + frame[9:-1][: number % 20]
            frame = len(answer).to_bytes(4, "big") + answer
        elif self._fault == "other_sign":
            frame = frame[:8] + bytes([number % 43]) + frame[9:]
        elif self._fault == "earlier_number":
            earlier = (int.from_bytes(frame[4:8], "big") - 1 - number) % 2**32
            frame = frame[:4] + earlier.to_bytes(4, "big") + frame[8:]
        elif self._fault == "hangs_halfway":
            frame = frame[: number % length]
        return frame


class Questions:
    """Where the process reads."""

    def __init__(self, pipe, fault, number):
        self._pipe, self._fault, self._left = pipe, fault, number

    def read(self, count):
        if self._fault in ("dies_after_reading", "hangs") and count > self._left:
            self._pipe.read(self._left)
            if self._fault == "hangs":
                time.sleep(3600)
            os._exit(1)
        self._left -= count
        return self._pipe.read(count)


def taken(directory):
    """The fault of this process, and its number."""
    for path in sorted(directory.iterdir()):
        try:
            content = path.read_text()
            path.unlink()
        except FileNotFoundError:
            continue  # another process was quicker
        return json.loads(content)
    return None, 0


def command(directory):
    """What starts a process that takes its fault out of a directory."""
    return sys.executable, __file__, str(directory)


def plan(directory, faults):
    """Put faults, each (name, number), into the directory."""
    for index, fault in enumerate(faults):
        partial = directory.with_name("partial")
        partial.write_text(json.dumps(fault))
        partial.replace(directory / f"{index:06}")


def killed_at_random(evaluate, question, right, rng, kills):
    """Kill the process at random instants of asking, and say how many questions had no answer.

    Every question has the right answer or none (`PolicyError`), and the right one afterwards.
    """
    began = time.monotonic()
    for _ in range(5):
        assert evaluate(question) == right
    most_seconds = (time.monotonic() - began) / 5 * 2
    without = 0
    for _ in range(kills):
        killer = threading.Thread(target=_kill, args=(evaluate.process_id, rng.uniform(0, most_seconds)))
        killer.start()
        failed = 0
        while killer.is_alive():
            failed += _fails(evaluate, question, right)
        killer.join()
        failed += _fails(evaluate, question, right)  # it may have been killed after the last answer
        assert failed <= 1
        assert evaluate(question) == right
        without += failed
    return without


def _kill(process_id, seconds):
    time.sleep(seconds)
    os.kill(process_id, signal.SIGKILL)


def _fails(evaluate, question, right):
    """Whether a question has no answer; one that it has is the right one."""
    try:
        answer = evaluate(question)
    except PolicyError:
        return True
    assert answer == right
    return False


if __name__ == "__main__":
    which, how = taken(Path(sys.argv.pop(1)))
    if which == "exits_at_once":
        sys.exit(how % 256)
    sys.stdout = SimpleNamespace(buffer=Answers(sys.stdout.buffer, which, how))
    sys.stdin = SimpleNamespace(buffer=Questions(sys.stdin.buffer, which, how))
    child.main()
