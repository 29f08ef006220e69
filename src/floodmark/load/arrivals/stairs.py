"""Schedules whose rate is constant over stretches of time: the shared half of constant, step and spike.

A subclass says which stretch a moment or a message belongs to; both directions are then exact rational arithmetic.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from floodmark.load.arrivals.schedule import Offsets, spaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time over which the rate does not change."""

    start_ns: Fraction
    before: Fraction  # the integral of the rate from 0 to start_ns, in messages
    rate_per_ns: Fraction
    end_before: Fraction | None  # the same integral to the end of the stretch; None: it never ends


class Stairs(ABC):
    """A schedule made of stretches."""

    @abstractmethod
    def stretch_at(self, elapsed_ns: int) -> Stretch:
        """Return the stretch that holds a moment, `elapsed_ns` >= 0."""

    @abstractmethod
    def stretch_of(self, index: int) -> Stretch:
        """Return the stretch with before <= index < end_before."""

    def due(self, elapsed_ns: int) -> int:
        """Count the messages intended at or before `elapsed_ns`."""
        if elapsed_ns < 0:
            return 0
        stretch = self.stretch_at(elapsed_ns)
        return math.floor(stretch.before + (elapsed_ns - stretch.start_ns) * stretch.rate_per_ns) + 1

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the intended offsets of messages `start` to `stop` - 1."""
        parts: list[Offsets] = []
        while start < stop:
            stretch = self.stretch_of(start)
            end = stop if stretch.end_before is None else min(stop, math.ceil(stretch.end_before))
            first_ns = stretch.start_ns + (start - stretch.before) / stretch.rate_per_ns
            parts.append(spaced(first_ns, 1 / stretch.rate_per_ns, end - start))
            start = end
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
