"""Online change detectors: one algorithm a file, one small protocol, one registry.

To add one: its file, and its line here. The laws in `tests/detectors/test_laws.py` then run on it by themselves.
"""

from collections.abc import Callable
from typing import Final

from detectors.adwin import Adwin
from detectors.kswin import Kswin
from detectors.page_hinkley import PageHinkley
from detectors.protocol import Detector, NonFiniteError

REGISTRY: Final[dict[str, Callable[..., Detector]]] = {
    "adwin": Adwin,
    "page_hinkley": PageHinkley,
    "kswin": Kswin,
}

__all__ = ["REGISTRY", "Adwin", "Detector", "Kswin", "NonFiniteError", "PageHinkley"]
