"""Bursts: `count` messages at the same instant, every `every_s` seconds, the first at offset 0."""

from __future__ import annotations

import numpy as np

from floodmark.load.arrivals.schedule import NS_PER_S, Offsets, exact, spaced
from floodmark.model.arrival import Burst


class BurstSchedule:
    """Message i belongs to burst i // count."""

    def __init__(self, arrival: Burst, *, duration_s: float | None = None, seed: int = 0) -> None:
        self._count = arrival.count
        self._every_ns = exact(arrival.every_s) * NS_PER_S

    def due(self, elapsed_ns: int) -> int:
        """Count the messages of all bursts that have begun."""
        if elapsed_ns < 0:
            return 0
        return (int(elapsed_ns // self._every_ns) + 1) * self._count

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the intended offsets of messages `start` to `stop` - 1: equal within a burst."""
        if start >= stop:
            return np.empty(0, dtype=np.int64)
        first, every = start // self._count, self._every_ns
        bursts_ns = spaced(every.numerator * first, every.numerator, every.denominator, (stop - 1) // self._count - first + 1)
        return bursts_ns[np.arange(start, stop, dtype=np.int64) // self._count - first]
