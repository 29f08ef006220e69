"""Schedules whose rate is constant over stretches of time: the shared half of constant, step and spike.

A subclass says which stretch a moment or a message belongs to. Within a stretch both directions are exact: the rationals are brought to
common denominators once, and what runs for every batch is integer arithmetic.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from fractions import Fraction

import numpy as np

from floodmark.load.arrivals.schedule import Offsets, spaced


class Stretch:
    """A time over which the rate does not change.

    Args:
        start_ns: where it begins.
        before: the integral of the rate from 0 to start_ns, in messages.
        rate_per_ns: messages per nanosecond.
        end_before: the same integral to the end of the stretch; None: it never ends.
    """

    __slots__ = ("_count", "_times", "end_index", "first_index", "start_ns")

    def __init__(self, *, start_ns: Fraction, before: Fraction, rate_per_ns: Fraction, end_before: Fraction | None) -> None:
        self.start_ns = start_ns
        self.first_index = math.ceil(before)
        self.end_index = None if end_before is None else math.ceil(end_before)  # the first message that is not in it
        self._count = _line(rate_per_ns, before - start_ns * rate_per_ns)
        self._times = _line(1 / rate_per_ns, start_ns - before / rate_per_ns)

    def due(self, elapsed_ns: int) -> int:
        """Count the messages intended at or before a moment of this stretch."""
        slope, offset, denominator = self._count
        return (slope * elapsed_ns + offset) // denominator + 1

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the offsets of messages of this stretch."""
        slope, offset, denominator = self._times
        return spaced(slope * start + offset, slope, denominator, stop - start)


def _line(slope: Fraction, offset: Fraction) -> tuple[int, int, int]:
    """Bring slope and offset to one denominator."""
    denominator = math.lcm(slope.denominator, offset.denominator)
    return int(slope * denominator), int(offset * denominator), denominator


class Stairs(ABC):
    """A schedule made of stretches."""

    @abstractmethod
    def stretch_at(self, elapsed_ns: int) -> Stretch:
        """Return the stretch that holds a moment, `elapsed_ns` >= 0."""

    @abstractmethod
    def stretch_of(self, index: int) -> Stretch:
        """Return the stretch with first_index <= index < end_index."""

    def due(self, elapsed_ns: int) -> int:
        """Count the messages intended at or before `elapsed_ns`."""
        return 0 if elapsed_ns < 0 else self.stretch_at(elapsed_ns).due(elapsed_ns)

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the intended offsets of messages `start` to `stop` - 1."""
        parts: list[Offsets] = []
        while start < stop:
            stretch = self.stretch_of(start)
            end = stop if stretch.end_index is None else min(stop, stretch.end_index)
            parts.append(stretch.times_ns(start, end))
            start = end
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
