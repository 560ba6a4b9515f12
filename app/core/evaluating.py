"""What evaluates the rules, to whoever asks it. Alone, so that the process that evaluates has nothing else to load."""

from collections.abc import Callable
from typing import Final

#: The rule whose value is the decision.
DECISION: Final = "data.qethics.decision"


class PolicyError(Exception):
    """There is no decision: something is wrong with the rules or the document, or the time is up."""


#: Input document -> decision, both as JSON. Raises `PolicyError`.
Evaluate = Callable[[bytes], bytes]
