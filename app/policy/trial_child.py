"""The process that runs a bundle's own tests, and nothing else.

It reads ``{"modules", "data", "tests"}`` as JSON and writes the failures as a JSON array.
"""

import json
import resource
import sys
from typing import Final

from app.core.evaluating import PolicyError
from app.policy import testing

_MOST_MEMORY_BYTES: Final = 2**31


def main() -> None:
    """Run the tests that standard input holds."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    asked = json.load(sys.stdin)
    try:
        failures = testing.run(asked["modules"], asked["data"], asked["tests"]).test_failures
    except PolicyError as error:
        failures = [str(error)]
    json.dump(failures, sys.stdout)


if __name__ == "__main__":
    main()
