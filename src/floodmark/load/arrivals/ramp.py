"""A straight line from from_hz to to_hz over the phase, and to_hz from then on.

N(t) = f t + k t^2 / 2 with k = (g - f) / d. Its inverse is written 2 i / (f + sqrt(f^2 + 2 k i)): the textbook root
(-f + sqrt(...)) / k loses all digits when k is near 0 (Press et al., Numerical Recipes, section 5.6).
Computed in float64: offsets are good to about one part in 1e16, well under a nanosecond for phases of some days.
"""

from __future__ import annotations

import numpy as np

from floodmark.core.errors import UsageError
from floodmark.load.arrivals.schedule import NS_PER_S, Offsets, count_due, per_ns, whole_ns
from floodmark.model.arrival import Ramp


class RampSchedule:
    """The one schedule that has to know how long the phase is: the slope follows from it."""

    def __init__(self, arrival: Ramp, *, duration_s: float | None = None, seed: int = 0) -> None:
        if duration_s is None:
            raise UsageError(
                "phase.duration_s is missing: a ramp reaches to_hz at the end of its phase; give duration_s, with or without messages"
            )
        per_ns(arrival.from_hz, setting="ramp.from_hz")
        per_ns(arrival.to_hz, setting="ramp.to_hz")
        self._from, self._to, self._duration_s = arrival.from_hz, arrival.to_hz, duration_s
        self._slope = (arrival.to_hz - arrival.from_hz) / duration_s
        self._total = (arrival.from_hz + arrival.to_hz) / 2 * duration_s

    def due(self, elapsed_ns: int) -> int:
        """Count the messages intended at or before `elapsed_ns`."""
        if elapsed_ns < 0:
            return 0
        climb_s = min(elapsed_ns / NS_PER_S, self._duration_s)
        level_s = elapsed_ns / NS_PER_S - climb_s
        intended = self._from * climb_s + self._slope * climb_s * climb_s / 2 + self._to * level_s
        return count_due(self.times_ns, intended, elapsed_ns)

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the intended offsets of messages `start` to `stop` - 1."""
        index = np.arange(start, stop, dtype=np.float64)
        climb = np.minimum(index, self._total)
        square = np.maximum(self._from * self._from + 2 * self._slope * climb, 0.0)
        return whole_ns(2 * climb / (self._from + np.sqrt(square)) + (index - climb) / self._to)
