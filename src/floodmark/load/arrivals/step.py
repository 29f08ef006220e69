"""A staircase: step k runs at from_hz + k * step_hz for every_s seconds.

Before step k, N_k = every_s * (from_hz * k + step_hz * k * (k - 1) / 2) messages were intended: the sum of an arithmetic series.
"""

from __future__ import annotations

import math
from fractions import Fraction

from floodmark.load.arrivals.schedule import NS_PER_S, exact, per_ns
from floodmark.load.arrivals.stairs import Stairs, Stretch
from floodmark.model.arrival import Step


class StepSchedule(Stairs):
    """Stretches of equal length, each faster than the last; the climb ends only with the phase."""

    def __init__(self, arrival: Step, *, duration_s: float | None = None, seed: int = 0) -> None:
        self._from = per_ns(arrival.from_hz, setting="step.from_hz")
        self._rise = per_ns(arrival.step_hz, setting="step.step_hz")
        self._every_ns = exact(arrival.every_s) * NS_PER_S
        self._last: tuple[int, Stretch] = (0, self._build(0))  # the step asked for last: nearly always the one asked for next

    def stretch_at(self, elapsed_ns: int) -> Stretch:
        """Return step floor(elapsed / every)."""
        return self._step(elapsed_ns * self._every_ns.denominator // self._every_ns.numerator)

    def stretch_of(self, index: int) -> Stretch:
        """Return the last step before which at most `index` messages were intended."""
        last = self._last[1]
        if last.end_index is not None and last.first_index <= index < last.end_index:
            return last
        # The root of N_k = index as a float is the guess, in the form that does not cancel; the exact N_k decides.
        slope = float(self._rise / 2 * self._every_ns)
        linear = float((self._from - self._rise / 2) * self._every_ns)
        root = math.sqrt(linear * linear + 4 * slope * index)
        k = math.floor(2 * index / (linear + root) if linear > 0 else (root - linear) / (2 * slope))
        while k > 0 and self._before(k) > index:
            k -= 1
        while self._before(k + 1) <= index:
            k += 1
        return self._step(k)

    def _before(self, k: int) -> Fraction:
        return self._every_ns * (self._from * k + self._rise * (k * (k - 1) // 2))

    def _step(self, k: int) -> Stretch:
        if self._last[0] != k:
            self._last = (k, self._build(k))
        return self._last[1]

    def _build(self, k: int) -> Stretch:
        return Stretch(
            start_ns=self._every_ns * k,
            before=self._before(k),
            rate_per_ns=self._from + self._rise * k,
            end_before=self._before(k + 1),
        )
