"""Quantities that people type: "100KB", "2GiB", "250ms", "1000/s", "99%".

A quantity has one dimension; the base units are seconds, bytes, hertz and a plain ratio. `parse` refuses a unit of another dimension
in one sentence that names the units it would have taken. Decimal prefixes are powers of 1000, binary ones (Ki, Mi, Gi) of 1024.
"""

from __future__ import annotations

import enum
import math
import re
from decimal import Decimal

from floodmark.core.errors import UsageError


class Dimension(enum.Enum):
    """What a number measures; the value is the name a person would use for it."""

    TIME = "a duration"
    BYTES = "a size"
    RATE = "a rate"
    RATIO = "a share"
    COUNT = "a count"
    FACTOR = "a multiple"


UNITS: dict[Dimension, dict[str, float]] = {
    Dimension.TIME: {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
    Dimension.BYTES: {
        "B": 1.0,
        "KB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 1024.0,
        "MiB": 1024.0**2,
        "GiB": 1024.0**3,
    },
    Dimension.RATE: {"/s": 1.0, "Hz": 1.0, "kHz": 1e3, "k/s": 1e3, "M/s": 1e6, "/min": 1 / 60.0},
    Dimension.RATIO: {"%": 0.01, "": 1.0},
    Dimension.COUNT: {"": 1.0, "k": 1e3, "M": 1e6},
    Dimension.FACTOR: {"x": 1.0},
}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")


def parse(text: str, dimension: Dimension, *, where: str = "") -> float:
    """Turn what a person typed into the base unit of its dimension.

    Args:
        text: a number and a unit, such as `250ms`; underscores may group digits.
        dimension: what is wanted; its units are the only ones taken.
        where: named in the error, so that the reader finds the place.
    Returns: seconds, bytes, hertz, a ratio (99% is 0.99), a count or a multiple.
    Raises: UsageError for no number, another unit, or a value that is not finite.

    >>> parse("250ms", Dimension.TIME)
    0.25
    >>> parse("2KiB", Dimension.BYTES)
    2048.0
    """
    place = f"{where}: " if where else ""
    allowed = ", ".join(unit or "no unit" for unit in UNITS[dimension])
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UsageError(f"{place}{text!r} is not {dimension.value}; write a number and one of these units: {allowed}")
    number, unit = match.groups()
    factor = UNITS[dimension].get(unit)
    if factor is None:
        raise UsageError(f"{place}{text!r} has the unit {unit or 'none'!r}, but {dimension.value} takes one of: {allowed}")
    value = _product(number.replace("_", ""), factor)
    if not math.isfinite(value):
        raise UsageError(f"{place}{text!r} is not finite; write a number that is")
    return value


def _product(number: str, factor: float) -> float:
    """Multiply in decimal, so that 57% is the float 0.57 and an observed 57/100 equals it; 57 * 0.01 is one bit above."""
    try:
        return float(Decimal(number) * Decimal(repr(factor)))
    except ArithmeticError:  # an exponent beyond what Decimal takes is 0 or infinite as a float
        return float(number) * factor


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for factor, unit in steps:
        if float(f"{abs(value) / factor:.3g}") >= 1:  # as it will be shown: 0.9996 s is 1 s
            return f"{_short(value / factor)} {unit}"
    factor, unit = steps[-1]
    return f"{_short(value / factor)} {unit}"


def _short(value: float) -> str:
    """Three significant digits, but never an exponent for a large number: 999.6 is 1000, not 1e+03."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _percent(ratio: float) -> str:
    """Five digits, or as many as it takes to tell a ratio that is almost 1 from 1."""
    text = f"{ratio * 100:.5g}"
    return text if ratio == 1 or text != "100" else f"{ratio * 100:.17g}"


def show(value: float, dimension: Dimension) -> str:
    """Write a value in its base unit the way a person reads it.

    >>> show(0.25, Dimension.TIME), show(2048, Dimension.BYTES), show(0.995, Dimension.RATIO)
    ('250 ms', '2 KiB', '99.5 %')
    """
    if not math.isfinite(value):
        return str(value)
    match dimension:
        case Dimension.TIME:
            return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))) if value else "0 s"
        case Dimension.BYTES:
            return _scaled(value, ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B")))
        case Dimension.RATE:
            return f"{value:,.0f} /s" if abs(value) >= 10 else f"{value:.3g} /s"
        case Dimension.RATIO:
            return f"{_percent(value)} %"
        case Dimension.FACTOR:
            return f"{_short(value)}x"
        case Dimension.COUNT:
            return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"
