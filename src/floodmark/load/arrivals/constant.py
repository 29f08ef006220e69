"""Evenly spaced messages: message i is intended at i / rate."""

from __future__ import annotations

from fractions import Fraction

from floodmark.load.arrivals.schedule import per_ns
from floodmark.load.arrivals.stairs import Stairs, Stretch
from floodmark.model.arrival import Constant


class ConstantSchedule(Stairs):
    """One stretch without an end."""

    def __init__(self, arrival: Constant, *, duration_s: float | None = None, seed: int = 0) -> None:
        rate = per_ns(arrival.rate_hz, setting="constant.rate_hz")
        self._only = Stretch(start_ns=Fraction(0), before=Fraction(0), rate_per_ns=rate, end_before=None)

    def stretch_at(self, elapsed_ns: int) -> Stretch:
        """Return the only stretch."""
        return self._only

    def stretch_of(self, index: int) -> Stretch:
        """Return the only stretch."""
        return self._only
