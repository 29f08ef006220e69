"""A steady rate with one spike: rate_hz, then peak_hz from at_s for for_s seconds, then rate_hz again."""

from __future__ import annotations

from fractions import Fraction

from floodmark.load.arrivals.schedule import NS_PER_S, exact, per_ns
from floodmark.load.arrivals.stairs import Stairs, Stretch
from floodmark.model.arrival import Spike


class SpikeSchedule(Stairs):
    """Three stretches: before the spike, in it, and after it without an end."""

    def __init__(self, arrival: Spike, *, duration_s: float | None = None, seed: int = 0) -> None:
        rate = per_ns(arrival.rate_hz, setting="spike.rate_hz")
        peak = per_ns(arrival.peak_hz, setting="spike.peak_hz")
        rise_ns = exact(arrival.at_s) * NS_PER_S
        fall_ns = rise_ns + exact(arrival.for_s) * NS_PER_S
        at_rise = rise_ns * rate
        at_fall = at_rise + (fall_ns - rise_ns) * peak
        self._stretches = (
            Stretch(start_ns=Fraction(0), before=Fraction(0), rate_per_ns=rate, end_before=at_rise),
            Stretch(start_ns=rise_ns, before=at_rise, rate_per_ns=peak, end_before=at_fall),
            Stretch(start_ns=fall_ns, before=at_fall, rate_per_ns=rate, end_before=None),
        )

    def stretch_at(self, elapsed_ns: int) -> Stretch:
        """Return the last stretch that has begun."""
        return next(stretch for stretch in reversed(self._stretches) if stretch.start_ns <= elapsed_ns)

    def stretch_of(self, index: int) -> Stretch:
        """Return the last stretch whose first message is not after `index`."""
        return next(stretch for stretch in reversed(self._stretches) if stretch.first_index <= index)
