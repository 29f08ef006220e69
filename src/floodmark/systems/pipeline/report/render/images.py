"""PNG and SVG: each page a file. `report.png` is a report of one page; of more they are `report-01.png`, `report-02.png`, ...

The sections are set once to learn how many pages there are, and a second time with headers and footers around them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.render.base import DIRECTORY_ERROR, Chunk, Out, Rendered, Rendering, Style, Told
from floodmark.systems.pipeline.report.render.pdf import typeset
from floodmark.systems.pipeline.report.render.sections import TEMPLATE
from floodmark.systems.pipeline.report.render.typesetter import Typesetter


async def _render(
    report: Report, chunks: AsyncIterable[Chunk], out: Out, *, parameters: Mapping[str, Any], style: Style, told: Told, kind: str
) -> Rendered:
    began_s = time.monotonic()
    if not isinstance(out, Path):
        raise UsageError(f"{kind.upper()} makes a file of each page and needs a name for them")
    if not out.parent.is_dir():
        raise UsageError(DIRECTORY_ERROR.format(folder=out.parent))
    with tempfile.TemporaryDirectory(prefix=".render-", dir=out.parent) as folder:  # beside it, so that files can be moved into place
        made: list[Path] = []
        async with Typesetter(timeout_s=style.timeout_s) as typesetter:
            layout, sections = await typeset(report, chunks, typesetter, parameters=parameters, style=style, told=told)
            for section in sections.done:
                around = sections.pages[len(made) : len(made) + section.pages]
                # A section's last page may hold what was carried into the next one; it is set too, and left out.
                around = [*around, sections.pages[-1]]
                config = sections.config(furniture=around, first=len(made) + 1)
                typed = await typesetter.compile(
                    TEMPLATE,
                    {"data.json": section.data.read_bytes(), "config.json": config},
                    out=Path(folder) / f"{len(made)}-{{page}}",
                    format=kind,
                    ppi=style.ppi,
                )
                made += typed.files[: section.pages]
        names = _names(out, len(made))
        size_bytes = sum(path.stat().st_size for path in made)
        for path, name in zip(made, names, strict=True):
            path.replace(name)
    return Rendered(
        pages=len(names),
        records=layout.rows_count,
        skipped=layout.skipped_count,
        skipped_reason=layout.skipped_reason,
        bytes=size_bytes,
        seconds=time.monotonic() - began_s,
        files=tuple(names),
        rss_bytes_peak=typesetter.rss_bytes_peak,
    )


def _names(out: Path, count: int) -> list[Path]:
    if count == 1:
        return [out]
    digits = len(str(count))
    return [out.with_name(f"{out.stem}-{number:0{digits}d}{out.suffix}") for number in range(1, count + 1)]


render_png: Rendering = partial(_render, kind="png")
render_svg: Rendering = partial(_render, kind="svg")
