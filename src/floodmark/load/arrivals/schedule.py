"""What every arrival schedule can do, and the exact arithmetic that they share.

A schedule is a non-decreasing list of intended offsets in whole nanoseconds from the start of a phase, never stored, only computed.
With N(t) = the integral of the rate from 0 to t, message i is intended at the first whole nanosecond at which N(t) >= i. So message 0
is intended at offset 0, and exactly ceil(N(d)) messages are intended in [0, d). Limits: at most 1e9 messages per second; offsets
beyond `FAR_NS` (146 years) are all reported as `FAR_NS`. No clock is read here: the caller says how much time has passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from floodmark.core.errors import UsageError

Offsets: TypeAlias = npt.NDArray[np.int64]

FAR_NS = 2**62
NS_PER_S = 1_000_000_000
FASTEST_HZ = 1e9


class Schedule(Protocol):
    """Intended send times of one phase, as a function of the message's number and as its inverse."""

    def due(self, elapsed_ns: int) -> int:
        """Count the messages intended at or before `elapsed_ns` from the start of the phase; 0 before it."""

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the intended offsets of messages `start` to `stop` - 1, as (stop - start,) int64, ascending."""


def exact(value: float) -> Fraction:
    """Return the number a person typed: 0.1 is one tenth, not the nearest binary fraction.

    >>> exact(0.1)
    Fraction(1, 10)
    """
    return Fraction(repr(value))


def per_ns(rate_hz: float, *, setting: str) -> Fraction:
    """Turn messages per second into messages per nanosecond, exactly; refuse what a nanosecond cannot resolve."""
    if rate_hz > FASTEST_HZ:
        raise UsageError(f"{setting} must be at most {FASTEST_HZ:g} per second (offsets are whole nanoseconds), got {rate_hz!r}")
    return exact(rate_hz) / NS_PER_S


def spaced(first: Fraction, period: Fraction, count: int) -> Offsets:
    """Return ceil(first + j * period) for j = 0 .. count - 1, without rounding on the way: no drift, however far from the start.

    >>> spaced(Fraction(0), Fraction(10, 3), 4).tolist()
    [0, 4, 7, 10]
    """
    denominator = math.lcm(first.denominator, period.denominator)
    start = first.numerator * (denominator // first.denominator)
    step = period.numerator * (denominator // period.denominator)
    if (count + 2) * denominator < FAR_NS and start + count * step < (FAR_NS - count) * denominator:
        # HOT: whole part and remainder apart, so that int64 is enough for every product.
        base, part = divmod(start, denominator)
        whole, rest = divmod(step, denominator)
        j = np.arange(count, dtype=np.int64)
        offsets: Offsets = j * whole + (j * rest + (part + denominator - 1)) // denominator + base
        return offsets
    return np.array([min(-(-(start + j * step) // denominator), FAR_NS) for j in range(count)], dtype=np.int64)


def whole_ns(seconds: npt.NDArray[np.float64]) -> Offsets:
    """Round computed seconds up to whole nanoseconds, capped at `FAR_NS`."""
    return np.minimum(np.ceil(seconds * NS_PER_S), float(FAR_NS)).astype(np.int64)


def count_due(times_ns: Callable[[int, int], Offsets], guess: int, elapsed_ns: int) -> int:
    """Invert `times_ns` exactly from a guess that may be off by the rounding of floats: widen until the answer is enclosed.

    Returns: the number of messages with an offset at or before `elapsed_ns`.
    """
    elapsed_ns = min(elapsed_ns, FAR_NS - 1)  # at FAR_NS everything is due and nothing would enclose the answer
    reach = 4
    while True:
        low, high = max(0, guess - reach), guess + reach
        window = times_ns(low, high)
        inside = int(np.searchsorted(window, elapsed_ns, side="right"))
        if (inside > 0 or low == 0) and inside < len(window):
            return low + inside
        guess = low if inside == 0 else high
        reach *= 2
