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
_NEAR = 1e-3  # messages
_FINE = 1e12  # up to here a float tells thousandths of a message apart


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


def spaced(start: int, step: int, denominator: int, count: int) -> Offsets:
    """Return ceil((start + j * step) / denominator) for j = 0 .. count - 1, exactly: no drift, however far from the start.

    >>> spaced(0, 10, 3, 4).tolist()
    [0, 4, 7, 10]
    """
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


def count_due(times_ns: Callable[[int, int], Offsets], intended: float, elapsed_ns: int) -> int:
    """Invert `times_ns` exactly with the help of the integral of the rate, which floats give to far better than a thousandth of a message.

    Args:
        times_ns: as in `Schedule`.
        intended: N(elapsed_ns).
    Returns: the number of messages with an offset at or before `elapsed_ns`.
    """
    due = math.floor(intended) + 1
    if _NEAR < intended - math.floor(intended) < 1 - _NEAR and intended < _FINE:
        return due  # HOT: no message is near this moment, so rounding cannot change the count
    elapsed_ns = min(elapsed_ns, FAR_NS - 1)  # at FAR_NS everything is due and nothing would enclose the answer
    reach = 4
    while True:
        low, high = max(0, due - reach), due + reach
        window = times_ns(low, high)
        inside = int(np.searchsorted(window, elapsed_ns, side="right"))
        if (inside > 0 or low == 0) and inside < len(window):
            return low + inside
        due = low if inside == 0 else high
        reach *= 2
