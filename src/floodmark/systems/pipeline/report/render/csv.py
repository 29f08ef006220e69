"""CSV as RFC 4180 has it: UTF-8, a line of field names, quotes where they are needed, lines that end with CR LF.

A text is written as it is. One that begins with `=` is a formula to a spreadsheet: import such a file with its columns as text.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import AsyncIterable, Mapping
from typing import IO, Any

from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.render.base import Chunk, Out, Rendered, Style, Told
from floodmark.systems.pipeline.report.render.printable import printable
from floodmark.systems.pipeline.report.render.rows import write_rows


async def render_csv(
    report: Report, chunks: AsyncIterable[Chunk], out: Out, *, parameters: Mapping[str, Any], style: Style, told: Told
) -> Rendered:
    """Write a line for each row."""
    return await write_rows(report, chunks, out, _write, head=_lines([tuple(report.fields)]), parameters=parameters, style=style, told=told)


def _write(file: IO[bytes], columns: Mapping[str, list[Any]]) -> int:
    texts = [list(map(_text, values)) for values in columns.values()]
    return file.write(_lines(list(zip(*texts, strict=True))))


def _lines(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return printable(str(value))
