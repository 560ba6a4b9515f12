"""The process that runs a bundle's own tests, so that tests that do not end can be ended. Nothing else.

It reads ``{"modules", "data", "tests"}`` as JSON and writes the failures as a JSON array.
"""

import json
import resource
import subprocess
import sys
from typing import Final

import msgspec

from app.core.evaluating import PolicyError
from app.core.policy import Pack
from app.policy import testing
from app.policy.bundle import Bundle, BundleError, Unsettled

_SECONDS: Final = 30.0
_MOST_MEMORY_BYTES: Final = 2**31


def passed(bundle: Bundle) -> None:
    """Run a bundle's own tests in a process of their own.

    Raises
    ------
    BundleError
        If one fails, there is none, or they do not end.
    """
    asked = {"modules": bundle.pack.modules, "data": bundle.pack.data, "tests": bundle.tests}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "app.policy.trial"],
            input=msgspec.json.encode(asked),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unsettled(f"its own tests have not ended within {_SECONDS:g} s") from error
    except (OSError, MemoryError) as error:
        raise Unsettled(f"its own tests could not be run: {error}") from error
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise Unsettled(f"its own tests could not be run: {said[-1] if said else ended.returncode}")
    try:
        failures = msgspec.json.decode(ended.stdout, type=list[str])
    except msgspec.MsgspecError as error:
        raise Unsettled(f"its own tests ended without a result: {error}") from error
    if failures:
        raise BundleError(f"{len(failures)} of its own tests fail: {failures[0]}")


def main() -> None:
    """Run the tests that standard input holds."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    asked = json.load(sys.stdin)
    try:
        failures = testing.run(Pack(asked["modules"], {}, asked["data"]), asked["tests"]).test_failures
    except PolicyError as error:
        failures = [str(error)]
    json.dump(failures, sys.stdout)


if __name__ == "__main__":
    main()
