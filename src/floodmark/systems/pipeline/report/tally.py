"""Fold the aggregates of a report chunk by chunk: what has been seen is kept as a few numbers, never as rows.

A `Tally` holds one set of calls over one scope (a group, a page, the report) and is begun anew when the scope is. For many scopes at once,
such as all groups that begin and end within a chunk, `partials` are computed by one group_by and merged here part by part.

Semantics: missing values are left out; COUNT(x) counts the others, COUNT(*) the rows; SUM and AVG of nothing are None, as in SQL. Sums of
whole numbers and decimals are exact; of floats each chunk is summed by polars and the chunks are added with math.fsum's exactness kept by
a running compensation, so a split into other chunks moves the last digit at most.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import polars as pl

from floodmark.systems.pipeline.report.expression import AVG_DTYPE, Call

Parts: TypeAlias = tuple[Any, ...]  # what one call has folded so far: (sum, compensation, count), (count,), (least,) or (greatest,)

_QUANTUM = decimal.Decimal(1).scaleb(-AVG_DTYPE.scale)


def partials(call: Call) -> list[pl.Expr]:
    """Return the expressions whose values over some rows are the parts of a call; for a select, or for the agg of a group_by."""
    name = call.text
    if call.source is None:
        return [pl.len().alias(f"{name}#0")]
    source = call.source
    if call.function == "count":
        return [source.count().alias(f"{name}#0")]
    if call.function in ("min", "max"):
        extreme = source.min() if call.function == "min" else source.max()
        return [extreme.alias(f"{name}#0")]
    wide = source.cast(pl.Int128) if call.dtype == pl.Int128() else source
    return [wide.sum().alias(f"{name}#0"), pl.lit(0.0).alias(f"{name}#1"), source.count().alias(f"{name}#2")]


def parts_of(call: Call, row: Mapping[str, Any]) -> Parts:
    """Take the parts of a call out of one row of computed partials."""
    width = 3 if call.function in ("sum", "avg") else 1
    return tuple(row[f"{call.text}#{index}"] for index in range(width))


def merged(call: Call, left: Parts, right: Parts) -> Parts:
    """Return the parts of two sets of rows together."""
    if call.function == "count":
        return (left[0] + right[0],)
    if call.function in ("min", "max"):
        if left[0] is None or right[0] is None:
            return (right[0] if left[0] is None else left[0],)
        return (min(left[0], right[0]) if call.function == "min" else max(left[0], right[0]),)
    total = left[0] + right[0]
    lost = left[1] + right[1]
    if isinstance(total, float) and total - total == 0.0:  # finite: what the addition rounded away is kept (Neumaier)
        big, small = (left[0], right[0]) if abs(left[0]) >= abs(right[0]) else (right[0], left[0])
        lost += (big - total) + small
    return (total, lost, left[2] + right[2])


def finished(call: Call, parts: Parts) -> Any:
    """Return the value of a call."""
    if call.function not in ("sum", "avg"):
        return parts[0]
    total, lost, count = parts
    if count == 0:
        return None
    if isinstance(total, float):
        total += lost if total - total == 0.0 else 0.0
    if call.function == "sum":
        return total
    if isinstance(total, decimal.Decimal):
        with decimal.localcontext(prec=60):
            return (total / count).quantize(_QUANTUM, decimal.ROUND_HALF_UP)
    return total / count


class Tally:
    """The aggregates of one scope."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._calls = tuple({call.text: call for call in calls}.values())
        self._columns = [column for call in self._calls for column in partials(call)]
        self._parts: dict[str, Parts] = {}
        self.rows_count = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Fold the rows of a chunk, which has the calls' inputs as columns."""
        if not len(frame):
            return
        self.rows_count += len(frame)
        if self._columns:
            self.add_parts(frame.select(self._columns).row(0, named=True))

    def add_parts(self, row: Mapping[str, Any]) -> None:
        """Fold partials that were computed elsewhere."""
        for call in self._calls:
            parts = parts_of(call, row)
            known = self._parts.get(call.text)
            self._parts[call.text] = parts if known is None else merged(call, known, parts)

    def reset(self) -> None:
        """Begin a new scope."""
        self._parts.clear()
        self.rows_count = 0

    def values(self) -> dict[str, Any]:
        """Return every aggregate by its text; of no rows at all, counts are 0 and the rest None."""
        empty: dict[str, Any] = {call.text: 0 if call.function == "count" else None for call in self._calls}
        return empty | {call.text: finished(call, self._parts[call.text]) for call in self._calls if call.text in self._parts}


def result_frame(calls: Sequence[Call], rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return finished values as columns, one row for each scope, for the formulas over them to be evaluated at once."""
    return pl.DataFrame({call.text: pl.Series([row[call.text] for row in rows], dtype=call.dtype, strict=False) for call in calls})
