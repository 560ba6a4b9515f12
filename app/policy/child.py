"""The process that evaluates rules, and nothing else. It may be killed at any moment.

The rules, ``{"modules": {name: source}, "data": {...}}``, are in the file whose descriptor is the argument; having
read them is said by a frame ``+``, or by ``-`` and a message. Frames are a length (4 bytes, big-endian) and so many
bytes, of which the first four are the number of the question, 0 before there was one. Each that comes is the path of a
rule, a line feed and an input document, answered under the same number by ``+`` and the rule's value as JSON, or ``-``
and what was wrong.
"""

import json
import os
import resource
import signal
import sys
from typing import BinaryIO, Final

from app.core.evaluating import PolicyError
from app.policy.inline import Inline

_MOST_MEMORY_BYTES: Final = 2**31
_NUMBER_BYTES: Final = 4


def read(stream: BinaryIO) -> bytes | None:
    """The next frame; None at the end, also if that is in the middle of one."""
    head = stream.read(4)
    length = int.from_bytes(head, "big")
    frame = stream.read(length) if len(head) == 4 else b""
    return frame if frame and len(frame) == length else None


def write(stream: BinaryIO, *parts: bytes) -> None:
    """One frame."""
    stream.write(sum(map(len, parts)).to_bytes(4, "big") + b"".join(parts))
    stream.flush()


def main() -> None:
    """Answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal it goes to the whole group; our parent ends us
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    descriptor = int(sys.argv[1])
    rules = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    try:
        engine = Inline(rules["modules"], rules["data"])
    except PolicyError as error:
        write(answers, bytes(_NUMBER_BYTES), b"-", str(error).encode())
        return
    write(answers, bytes(_NUMBER_BYTES), b"+")
    while (request := read(requests)) is not None:
        number, question = request[:_NUMBER_BYTES], request[_NUMBER_BYTES:]
        path, _, document = question.partition(b"\n")
        try:
            write(answers, number, b"+", engine.ask(path.decode(), document))
        except PolicyError as error:
            write(answers, number, b"-", str(error).encode())


if __name__ == "__main__":
    main()
