"""Page-Hinkley: River's implementation behind this project's protocol."""

from typing import Final, Literal

from detectors.protocol import RiverBacked, read, river_drift, written

NAME: Final = "page_hinkley"
_FIELDS: Final = ("_sum_increase", "_sum_decrease", "_min_increase", "_max_decrease")


class PageHinkley(RiverBacked):
    r"""Cumulative deviation from the running mean, against its own extreme.

    With the running mean :math:`\bar x_t`, the sums :math:`m_t = \alpha m_{t-1} + (x_t - \bar x_t \mp \delta)` signal
    change when they leave their minimum (increase) or maximum (decrease) by more than `threshold`.

    Parameters
    ----------
    min_instances
        Observations before the first signal, >= 1.
    delta
        Tolerated deviation, in units of x, >= 0.
    threshold
        Height of the signal, in units of x, > 0.
    alpha
        Forgetting factor, in (0, 1].
    mode
        Which changes signal: ``up``, ``down`` or ``both``.

    Examples
    --------
    >>> detector = PageHinkley(delta=0.005, threshold=0.5, mode="down")
    >>> for x in [0.95] * 500 + [0.60] * 5:
    ...     detector.update(x)
    ...     if detector.drift_detected:
    ...         break
    >>> detector.drift_detected
    True

    References
    ----------
    Page: Continuous inspection schemes. Biometrika 41 (1954), 100-115. Hinkley: Inference about the change-point from
    cumulative sum tests. Biometrika 58 (1971), 509-523.
    """

    def __init__(
        self,
        min_instances: int = 30,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 0.9999,
        mode: Literal["up", "down", "both"] = "both",
    ) -> None:
        self._parameters = (min_instances, float(delta), float(threshold), float(alpha), mode)
        self._inner = river_drift().PageHinkley(
            min_instances=min_instances, delta=delta, threshold=threshold, alpha=alpha, mode=mode
        )

    def snapshot(self) -> bytes:
        """The running mean, the sums, their extremes and the flag."""
        inner = self._inner
        state = (
            inner._x_mean.n,
            inner._x_mean._mean,
            self.drift_detected,
            *(float(getattr(inner, name)) for name in _FIELDS),
        )
        return written(NAME, self._parameters, state)

    def restore(self, snapshot: bytes) -> None:
        """Continue from `snapshot`."""
        n, mean, detected, *values = read(snapshot, NAME, self._parameters)
        inner = self._inner
        inner._x_mean.n, inner._x_mean._mean, inner._drift_detected = n, mean, detected
        for name, value in zip(_FIELDS, values, strict=True):
            setattr(inner, name, value)
