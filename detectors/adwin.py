"""ADWIN, adaptive windowing: River's implementation behind this project's protocol."""

from typing import Final

from detectors.protocol import RiverBacked, read, river_drift, written

NAME: Final = "adwin"


class Adwin(RiverBacked):
    r"""A window that drops its older part when two parts of it differ in mean.

    Over all cuts of the window into W0 and W1 of sizes n0 and n1, change is signalled when
    :math:`|\mu_0 - \mu_1| > \epsilon`, where :math:`\epsilon` follows from a Hoeffding-type bound at confidence
    `delta`. The window is kept as exponential histogram, so memory grows with the logarithm of its length.

    Parameters
    ----------
    delta
        Confidence, in (0, 1): the chance of a false cut at one test.
    clock
        Observations between two tests, >= 1.
    min_window_length
        The least observations in either part, >= 1.
    grace_period
        Observations before the first test, >= 0.

    Examples
    --------
    >>> detector = Adwin()
    >>> for x in [0.95] * 500 + [0.60] * 200:
    ...     detector.update(x)
    ...     if detector.drift_detected:
    ...         break
    >>> detector.drift_detected
    True

    References
    ----------
    Bifet, Gavalda: Learning from time-changing data with adaptive windowing. SIAM SDM 2007, 443-448.
    """

    def __init__(
        self, delta: float = 0.002, clock: int = 32, min_window_length: int = 5, grace_period: int = 10
    ) -> None:
        self._parameters = (float(delta), clock, min_window_length, grace_period)
        self._inner = river_drift().ADWIN(
            delta=delta, clock=clock, min_window_length=min_window_length, grace_period=grace_period
        )

    def snapshot(self) -> bytes:
        """The window's histogram, as River's own compact bytes, and the flag."""
        return written(NAME, self._parameters, (self._inner._helper.__getstate__(), self.drift_detected))

    def restore(self, snapshot: bytes) -> None:
        """Continue from `snapshot`."""
        helper, detected = read(snapshot, NAME, self._parameters)
        self._inner._helper.__setstate__(helper)
        self._inner._drift_detected = detected
