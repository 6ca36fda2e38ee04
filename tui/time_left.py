"""Time left between two estimates: it runs down, so that what is shown never stands still."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 2.0
"""Interval of two estimates, which read the store."""


class AgeingEstimate:
    """Remaining seconds of some work: estimated again from time to time, and less in between.

    Args:
        estimate: estimates the remaining seconds; None where nothing was measured yet.
    """

    def __init__(self, estimate: Callable[[], float | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._estimate = estimate
        self._clock = clock
        self._seconds: float | None = None
        self._at = float("-inf")

    def __call__(self) -> float | None:
        """Return the remaining seconds now; None where nothing was measured yet."""
        now = self._clock()
        if now - self._at >= _SECONDS:
            self._seconds, self._at = self._estimate(), now
        return None if self._seconds is None else max(self._seconds - (now - self._at), 0.0)
