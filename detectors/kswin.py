"""KSWIN, the Kolmogorov-Smirnov window: River's implementation behind this project's protocol, always seeded."""

from collections import deque
from typing import Final

from detectors.protocol import RiverBacked, read, river_drift, written

NAME: Final = "kswin"


class Kswin(RiverBacked):
    """A Kolmogorov-Smirnov test of the newest part of a window against a sample of the rest.

    Change is signalled when the p-value of the two-sample test is at most `alpha` and the distance above 0.1. The
    rest is sampled at random; the seed makes that repeatable, and the state of the generator is part of the snapshot.
    It costs some 300 microseconds an observation, hundreds of times what the other detectors cost.

    Parameters
    ----------
    alpha
        Level of each test, in (0, 1).
    window_size
        Observations in the window, > `stat_size`.
    stat_size
        Observations in the newest part, >= 1.
    seed
        Seed of the sampling.

    Examples
    --------
    >>> detector = Kswin(alpha=1e-4, seed=7)
    >>> for x in [i % 10 / 10 for i in range(200)] + [2.0] * 30:
    ...     detector.update(x)
    ...     if detector.drift_detected:
    ...         break
    >>> detector.drift_detected
    True

    References
    ----------
    Raab, Heusinger, Schleif: Reactive soft prototype computing for concept drift streams. Neurocomputing 416 (2020),
    340-351.
    """

    def __init__(self, alpha: float = 1e-4, window_size: int = 100, stat_size: int = 30, seed: int = 0) -> None:
        self._parameters = (float(alpha), window_size, stat_size, seed)
        self._inner = river_drift().KSWIN(alpha=alpha, window_size=window_size, stat_size=stat_size, seed=seed)

    def snapshot(self) -> bytes:
        """The window, the flag and the state of the generator."""
        version, words, gauss = self._inner._rng.getstate()
        state = (self._inner.n, list(self._inner.window), self.drift_detected, version, words, gauss)
        return written(NAME, self._parameters, state)

    def restore(self, snapshot: bytes) -> None:
        """Continue from `snapshot`."""
        n, window, detected, version, words, gauss = read(snapshot, NAME, self._parameters)
        inner = self._inner
        inner.n, inner._drift_detected = n, detected
        inner.window = deque(window, maxlen=inner.window_size)  # type: ignore[call-overload]
        inner._rng.setstate((version, tuple(words), gauss))  # type: ignore[arg-type]
