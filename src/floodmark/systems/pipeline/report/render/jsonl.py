"""JSON lines: an object per row, its fields by name."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Mapping
from typing import IO, Any

import msgspec

from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.render.base import Chunk, Out, Rendered, Style, Told
from floodmark.systems.pipeline.report.render.printable import printable
from floodmark.systems.pipeline.report.render.rows import write_rows

_encoder = msgspec.json.Encoder(decimal_format="number")  # exact, as JSON allows; most readers take it as a float


async def render_jsonl(
    report: Report, chunks: AsyncIterable[Chunk], out: Out, *, parameters: Mapping[str, Any], style: Style, told: Told
) -> Rendered:
    """Write a line for each row. NaN and infinities, which JSON does not have, are null."""
    return await write_rows(report, chunks, out, _write, head=b"", parameters=parameters, style=style, told=told)


def _write(file: IO[bytes], columns: Mapping[str, list[Any]]) -> int:
    names = list(columns)
    cleaned = [list(map(_plain, values)) for values in columns.values()]
    return file.write(_encoder.encode_lines([dict(zip(names, row, strict=True)) for row in zip(*cleaned, strict=True)]))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
