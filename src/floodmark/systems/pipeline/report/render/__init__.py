"""Reports on paper and on screen: `render()` turns a report and a stream of its rows into a file.

    rendered = await render(report, stream.batches(), Path("sales.pdf"), format="pdf")

Formats: pdf, png, svg (Typst), html (one file, light and dark), jsonl and csv (the rows alone). Memory does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from pathlib import Path
from typing import Any

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.parameters import bind
from floodmark.systems.pipeline.report.render.base import Chunk, Front, Out, Progress, Rendered, Rendering, Style, Told
from floodmark.systems.pipeline.report.render.csv import render_csv
from floodmark.systems.pipeline.report.render.errors import (
    CompilationError,
    EmptyTemplateError,
    FontError,
    InvalidFormatError,
    RenderError,
    TemplateFileError,
    TemplateSyntaxError,
    TemplateTooLargeError,
    TypesetterDiedError,
    TypesetTimeoutError,
)
from floodmark.systems.pipeline.report.render.html import render_html
from floodmark.systems.pipeline.report.render.images import render_png, render_svg
from floodmark.systems.pipeline.report.render.jsonl import render_jsonl
from floodmark.systems.pipeline.report.render.pdf import render_pdf
from floodmark.systems.pipeline.report.render.typesetter import compile_template

RENDERINGS: dict[str, Rendering] = {
    "pdf": render_pdf,
    "png": render_png,
    "svg": render_svg,
    "html": render_html,
    "jsonl": render_jsonl,
    "csv": render_csv,
}

__all__ = [
    "RENDERINGS",
    "CompilationError",
    "EmptyTemplateError",
    "FontError",
    "Front",
    "InvalidFormatError",
    "Progress",
    "RenderError",
    "Rendered",
    "Rendering",
    "Style",
    "TemplateFileError",
    "TemplateSyntaxError",
    "TemplateTooLargeError",
    "TypesetTimeoutError",
    "TypesetterDiedError",
    "compile_template",
    "render",
]


async def render(
    report: Report,
    stream: AsyncIterable[Chunk],
    out: Out,
    *,
    format: str = "",  # noqa: A002  # the word for it everywhere
    parameters: Mapping[str, Any] | None = None,
    progress: Told | None = None,
    style: Style | None = None,
) -> Rendered:
    """Write a report.

    Args:
        stream: its rows as frames, batches or lists of records, ordered by the report's groups.
        out: the file, in a folder that exists; for html, jsonl and csv also an open binary stream.
        format: one of the report's outputs; "" takes it from the file's name.
        parameters: the report's parameters by name, as values or as text.
        progress: told after each chunk.
    Returns: how much was written, and how many rows were left out because a value could not be read.
    Raises: InvalidFormatError, ReportError (wrong parameters, a field that the rows lack), a RenderError; whatever the stream raises.
    Cancelled or failed half-way: no file, no process, nothing beside `out` is left.
    """
    chosen = format or (out.suffix.removeprefix(".").lower() if isinstance(out, Path) else "")
    allowed = tuple(name for name in RENDERINGS if name in report.outputs)
    if chosen not in allowed:
        raise InvalidFormatError(chosen, allowed)
    if style is not None and style.front is not None and chosen != "pdf":
        raise UsageError(f"a front comes before the pages of a PDF; {chosen} has no place for it")
    return await RENDERINGS[chosen](
        report,
        stream,
        out,
        parameters=bind(report.parameters, parameters or {}),
        style=style or Style(),
        told=progress or (lambda _: None),
    )
