"""A peer of the bench, installed only for it; its types are not ours to check."""

from typing import Any

def __getattr__(name: str) -> Any: ...
