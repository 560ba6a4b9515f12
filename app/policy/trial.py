"""A bundle's own tests, run in a process of their own, so that tests that do not end can be ended.

`trial_child` is that process.
"""

import subprocess
import sys
from typing import Final

import msgspec

from app.policy.bundle import Bundle, BundleError, Unsettled
from app.unreadable import UNREADABLE

_SECONDS: Final = 30.0


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
            [sys.executable, "-m", "app.policy.trial_child"],
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
    except UNREADABLE as error:
        raise Unsettled(f"its own tests ended without a result: {error}") from error
    if failures:
        raise BundleError(f"{len(failures)} of its own tests fail: {failures[0]}")
