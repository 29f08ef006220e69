"""A sine around rate_hz, starting at the mean and rising: rate(t) = r + a sin(2 pi t / p).

With x = t / p and y = i / (r p), both in periods, message i is intended where x + e / (2 pi) (1 - cos 2 pi x) = y, e = a / r <= 1.
That is Kepler's equation in another dress; it has no closed form. Newton's method, kept inside a bracket that is halved whenever
Newton would leave it, solves a whole batch at once. Whole periods are taken off first, so precision does not fade with time.
At e = 1 the rate touches zero once a period; a message at that very point is placed only to some millionths of the period.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from floodmark.load.arrivals.schedule import NS_PER_S, Offsets, count_due, per_ns, whole_ns
from floodmark.model.arrival import Wave

_ROUNDS = 64  # bisection alone would be at full precision after 53; Newton needs about 5
_TURN = 2 * math.pi
_SETTLED = 1e-15  # periods: 0.1 ns of a day
_NOISE = 4e-16  # what rounding leaves of an excess that is zero


class WaveSchedule:
    """Periodic load, as over a day."""

    def __init__(self, arrival: Wave, *, duration_s: float | None = None, seed: int = 0) -> None:
        per_ns(arrival.rate_hz, setting="wave.rate_hz")
        self._period_s = arrival.period_s
        self._per_period = arrival.rate_hz * arrival.period_s
        self._depth = arrival.amplitude_hz / arrival.rate_hz

    def due(self, elapsed_ns: int) -> int:
        """Count the messages intended at or before `elapsed_ns`."""
        if elapsed_ns < 0:
            return 0
        x = elapsed_ns / NS_PER_S / self._period_s
        y = x + self._depth / _TURN * (1 - math.cos(_TURN * math.fmod(x, 1.0)))
        return count_due(self.times_ns, y * self._per_period, elapsed_ns)

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the intended offsets of messages `start` to `stop` - 1."""
        y = np.arange(start, stop, dtype=np.float64) / self._per_period
        whole = np.floor(y)
        return whole_ns((whole + self._phase(y - whole)) * self._period_s)

    def _phase(self, y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Solve x + e / (2 pi) (1 - cos 2 pi x) = y for x, (n,) both, y in [0, 1)."""
        low, high = y - self._depth / math.pi, y.copy()
        x = y - self._depth / _TURN * (1 - np.cos(_TURN * y))
        moving = np.ones(len(y), dtype=np.bool_)
        for _ in range(_ROUNDS):
            # INVARIANT: an element that has settled is not touched again, so an offset does not depend on the batch it is computed in.
            excess = x + self._depth / _TURN * (1 - np.cos(_TURN * x)) - y
            low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
            slope = np.maximum(1 + self._depth * np.sin(_TURN * x), 1e-12)
            step = x - excess / slope
            step = np.where((step < low) | (step > high), (low + high) / 2, step)
            moving &= (np.abs(step - x) > _SETTLED) & (np.abs(excess) > _NOISE)
            if not moving.any():
                break
            x = np.where(moving, step, x)
        return x
