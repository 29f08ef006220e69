"""Sums without rounding: how a numeric column becomes 128-bit integers that add up exactly, in any order and any split.

A value is taken as `integer x base**exponent`: integers as they are, decimals with their scale, and floats, each of which is an integer
times a power of two, in lanes. A lane holds the floats of 53 neighbouring binary exponents as integers below 2**105, so that 2**20 of
them add up in 128 bits; nearly every column of real figures fits the lane from 2**-22 to 2**31. The partial sums of a fold become
Python integers, which have no limit. `total` rounds once, at the end: a sum of floats is what `math.fsum` gives.

Not numbers: booleans, text, dates, durations. NaN counts as a missing value, like None; infinities take part (inf - inf gives NaN).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Literal

import msgspec
import polars as pl

Kind = Literal["integer", "decimal", "float"]
Number = int | float | Decimal

FOLD_ROWS_MAX = 2**20  # INVARIANT: no sum is taken over more rows at once, or a lane could overflow
LANE_BITS = 53
LANE_OFFSET = -22
LIMB_BITS = 64
_DIVISION = Context(prec=50)  # of an average of decimals; sums of them are exact


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One column prepared for summing: what to add to the frame's expressions, and what it means."""

    kind: Kind
    lanes: dict[int, pl.Expr]  # by exponent; each sums to a 128-bit or 64-bit integer
    values: pl.Expr  # the numbers themselves, without NaN: what min, max and the count of values look at
    dense: bool  # no value is missing: there are as many as rows
    infinite: bool = False  # infinities are among the values


def is_number(kind: pl.DataType) -> bool:
    """Whether a column of this type takes part in aggregates."""
    return kind.is_numeric()


def part(series: pl.Series, name: str) -> Part:
    """Find out how to sum a column, looking once at its least and greatest values.

    Args:
        series: of a numeric type, at most FOLD_ROWS_MAX rows.
        name: under which the column stands in the frame that will be aggregated.
    """
    if series.dtype.is_decimal():
        scale = series.dtype.scale  # type: ignore[attr-defined]
        return Part(
            kind="decimal",
            lanes={
                -scale + exponent: lane for exponent, lane in _integer_lanes(series.to_physical(), pl.col(name).to_physical(), 10).items()
            },
            values=pl.col(name),
            dense=not series.null_count(),
        )
    if series.dtype.is_float():
        return _float_part(series, name)
    return Part(kind="integer", lanes=_integer_lanes(series, pl.col(name), 2), values=pl.col(name), dense=not series.null_count())


def _greatest(series: pl.Series) -> int:
    """The greatest absolute value of a column of integers."""
    low, high = series.min(), series.max()
    return max(abs(int(low)), abs(int(high))) if low is not None and high is not None else 0  # type: ignore[arg-type]


def _integer_lanes(series: pl.Series, column: pl.Expr, base: int) -> dict[int, pl.Expr]:
    """Sum in 64 bits where nothing can overflow, else in 128, else the upper and the lower half apart."""
    bound = _greatest(series) * len(series)
    if bound < 2**63:
        return {0: column.cast(pl.Int64).sum()}
    if bound < 2**127:
        return {0: column.cast(pl.Int128).sum()}
    limb = base**LIMB_BITS if base == 2 else base**19
    exponent = LIMB_BITS if base == 2 else 19
    return {exponent: (column // limb).cast(pl.Int128).sum(), 0: (column % limb).cast(pl.Int128).sum()}


def _float_part(series: pl.Series, name: str) -> Part:
    """Sum floats as integers, lane by lane."""
    column = pl.col(name)
    if series.dtype != pl.Float64:
        series, column = series.cast(pl.Float64), column.cast(pl.Float64)
    dense = not series.null_count()
    if series.is_nan().any():
        series, column, dense = series.fill_nan(None), column.fill_nan(None), False
    values = column
    sizes = series.abs()
    greatest = sizes.max()
    infinite = greatest == math.inf
    if infinite:
        sizes, column = sizes.filter(sizes.is_finite()), pl.when(column.is_finite()).then(column)
        greatest = sizes.max()
    least = sizes.min()
    if least == 0.0:
        least = sizes.filter(sizes > 0.0).min()
    if not isinstance(greatest, float) or not isinstance(least, float):  # nothing but zeros and missing values
        return Part(kind="float", lanes={}, values=values, dense=dense, infinite=infinite)
    first, last = _lane(least), _lane(greatest)
    lanes = {}
    for lane in range(first, last + 1):
        low = LANE_BITS * lane + LANE_OFFSET
        unit = low - LANE_BITS + 1
        chosen = column
        if lane > first:
            chosen = pl.when(column.abs() >= math.ldexp(1.0, low)).then(chosen)
        if lane < last:
            chosen = pl.when(column.abs() < math.ldexp(1.0, low + LANE_BITS)).then(chosen)
        half = -unit // 2  # 2.0**1134 is no float: scale in two steps, both without rounding
        scaled = chosen * math.ldexp(1.0, half) * math.ldexp(1.0, -unit - half)
        lanes[unit] = scaled.cast(pl.Int128).sum()
    return Part(kind="float", lanes=lanes, values=values, dense=dense, infinite=infinite)


def _lane(size: float) -> int:
    """The number of the lane that a finite positive float belongs to."""
    return (math.frexp(size)[1] - 1 - LANE_OFFSET) // LANE_BITS


def integer_total(parts: Mapping[int, int], base: int) -> tuple[int, int]:
    """Add integers of several exponents; gives (integer, exponent) with the least of them.

    >>> integer_total({0: 3, 64: 1}, 2) == (2**64 + 3, 0)
    True
    """
    least = min(parts, default=0)
    return sum(value * base ** (exponent - least) for exponent, value in parts.items()), least


def ratio(numerator: int, denominator: int) -> float:
    """Divide integers and round once; infinite where no float is large enough.

    >>> ratio(1, 3), ratio(-(10**400), 1)
    (0.3333333333333333, -inf)
    """
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if (numerator < 0) == (denominator < 0) else -math.inf


class Total(msgspec.Struct, kw_only=True):
    """The exact sum of one field in one group, out of the kinds of numbers that occurred there."""

    integers: int = 0
    decimals: dict[int, int] = {}  # integers by exponent of ten
    floats: dict[int, int] = {}  # integers by exponent of two
    kinds: frozenset[Kind] = frozenset()  # that occurred
    positive_count: int = 0  # infinities
    negative_count: int = 0

    def value(self, divisor: int | None = None) -> Number:
        """The sum: an int, a Decimal where decimals occurred, a float where floats did; divided, an int becomes a float.

        Rounded once: floats to the nearest, the quotient of a Decimal to 50 digits, the sum of Decimals not at all.
        """
        if self.positive_count or self.negative_count:
            return math.nan if self.positive_count and self.negative_count else math.inf if self.positive_count else -math.inf
        tens, scale = integer_total({0: 0, **self.decimals} if "decimal" in self.kinds else {}, 10)
        tens += self.integers * 10**-scale
        if "float" in self.kinds:
            twos, exponent = integer_total({0: 0, **self.floats}, 2)
            below, scaled_below = 2**-exponent, 10**-scale
            return ratio(twos * scaled_below + tens * below, below * scaled_below * (divisor or 1))
        if "decimal" in self.kinds:
            exact = Decimal(f"{tens}e{scale}")
            return exact if divisor is None else _DIVISION.divide(exact, Decimal(divisor))
        return tens if divisor is None else ratio(tens, divisor)
