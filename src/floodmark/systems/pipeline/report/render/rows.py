"""What JSON lines and CSV have in common: a report's rows as values of their kinds, one chunk at a time, without bands.

Values are those of the source, not their printed form: dates and times as ISO 8601, decimals with the digits they have, missing ones as
nothing. Fields come in the order declared.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import polars as pl

from floodmark.systems.pipeline.report.kinds import Kind
from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.render.base import Chunk, Out, Progress, Rendered, Style, Told, frames, opened
from floodmark.systems.pipeline.report.shape import Shape

_DECIMALS = (Kind.DECIMAL, Kind.MONEY)


async def write_rows(
    report: Report,
    chunks: AsyncIterable[Chunk],
    out: Out,
    write: Callable[[IO[bytes], Mapping[str, list[Any]]], int],
    *,
    head: bytes,
    parameters: Mapping[str, Any],
    style: Style,
    told: Told,
) -> Rendered:
    """Write each chunk's columns with `write`, which returns how many bytes it wrote."""
    began_s = time.monotonic()
    shape = Shape(report, parameters)
    kinds = report.kinds
    records = 0
    with opened(out) as file:
        size_bytes = file.write(head)
        async with frames(chunks, most=max(style.section_items, 1000)) as parts:
            async for frame in parts:
                rows = shape.rows(frame)
                size_bytes += write(file, {name: _values(rows[name], kind) for name, kind in kinds.items()})
                records += len(rows)
                told(Progress(records=records, skipped=shape.skipped_count, pages=0))
    return Rendered(
        pages=0,
        records=records,
        skipped=shape.skipped_count,
        skipped_reason=shape.skipped_reason,
        bytes=size_bytes,
        seconds=time.monotonic() - began_s,
        files=(out,) if isinstance(out, Path) else (),
    )


def _values(column: pl.Series, kind: Kind) -> list[Any]:
    values = column.to_list()
    if kind in _DECIMALS:
        return [None if value is None else trimmed(value) for value in values]
    return values


def trimmed(value: Decimal) -> Decimal:
    """Return a decimal without the zeros at its end, and never in powers of ten.

    >>> trimmed(Decimal("12.500000")), trimmed(Decimal("100.00"))
    (Decimal('12.5'), Decimal('100'))
    """
    short = value.normalize()
    return short if short.as_tuple().exponent <= 0 else short.quantize(Decimal(1))  # type: ignore[operator]  # rows hold no NaN
