"""How old records are when their effect can be seen, as a histogram fine enough for quantiles."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

#: Upper bounds in seconds: 10 % steps, 24 a decade, from 1 ms to 1,000 s.
BOUNDS: Final = np.geomspace(0.001, 1000.0, 145)


class Ages:
    """Counts by age; element i counts ages up to `BOUNDS[i]`, the last one everything above."""

    def __init__(self) -> None:
        self.counts = np.zeros(len(BOUNDS) + 1, dtype=np.int64)
        self.sum_seconds = 0.0

    def add(self, records: Sequence[Any], now: float) -> None:
        """Count records by the time since their Kafka timestamp; heartbeats among them count as well."""
        ages = now - np.array([record.timestamp for record in records]) / 1000
        self.counts += np.bincount(np.searchsorted(BOUNDS, ages), minlength=len(self.counts))
        self.sum_seconds += float(ages.sum())

    def quantile(self, q: float) -> float | None:
        """The age in seconds that a share `q` of the records did not exceed (to 10 %); None without records."""
        total = int(self.counts.sum())
        if not total:
            return None
        index = int(np.searchsorted(np.cumsum(self.counts), q * total))
        return float(BOUNDS[min(index, len(BOUNDS) - 1)])
