"""PDF: sections compiled apart, joined under one run of page numbers.

The pages are compiled without what stands around them. Headers, footers and headings are a second document of as many pages, laid over the
first when their number is known; it costs a fraction of a second for 1,000 pages. Memory: that of a section, in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.render.base import Chunk, Out, Progress, Rendered, Style, Told, frames, placing
from floodmark.systems.pipeline.report.render.layout import Layout
from floodmark.systems.pipeline.report.render.plan import plan_of
from floodmark.systems.pipeline.report.render.sections import TEMPLATE, Sections, blank
from floodmark.systems.pipeline.report.render.typesetter import Typesetter

OVERLAY_PAGES = 300  # laid out at once
JOIN_LIMIT_S = 30.0  # and PAGE_LIMIT_S for each page
PAGE_LIMIT_S = 0.05


async def render_pdf(
    report: Report, chunks: AsyncIterable[Chunk], out: Out, *, parameters: Mapping[str, Any], style: Style, told: Told
) -> Rendered:
    """Render a report as PDF."""
    began_s = time.monotonic()
    if not isinstance(out, Path):
        raise UsageError("a PDF is put together from its sections and needs a file to be written to")
    with placing(out) as part:
        async with Typesetter(timeout_s=style.timeout_s) as typesetter:
            layout, sections = await typeset(report, chunks, typesetter, parameters=parameters, style=style, told=told)
            overlays = []
            front_pages = sections.front_pages
            firsts = [*range(0, front_pages, OVERLAY_PAGES), *range(front_pages, len(sections.pages), OVERLAY_PAGES)]
            for first, end in pairwise([*firsts, len(sections.pages)]):
                pages = sections.pages[first:end]
                file = typesetter.folder / f"around-{first}.pdf"
                config = sections.config(furniture=pages, first=first + 1, upright=first < front_pages)
                await typesetter.compile(TEMPLATE, {"data.json": blank(len(pages)), "config.json": config}, out=file)
                overlays.append(file)
            joined = await typesetter.join(
                [(section.file, section.pages) for section in sections.done],
                overlays,
                out=part,
                title=report.title,
                author=report.author,
                outline=[(style.front.entry or report.title, front_pages)] if style.front is not None else [],
                timeout_s=JOIN_LIMIT_S + PAGE_LIMIT_S * len(sections.pages),
            )
    return Rendered(
        pages=joined.pages,
        records=layout.rows_count,
        skipped=layout.skipped_count,
        skipped_reason=layout.skipped_reason,
        bytes=joined.bytes,
        seconds=time.monotonic() - began_s,
        files=(out,),
        rss_bytes_peak=typesetter.rss_bytes_peak,
    )


async def typeset(
    report: Report, chunks: AsyncIterable[Chunk], typesetter: Typesetter, *, parameters: Mapping[str, Any], style: Style, told: Told
) -> tuple[Layout, Sections]:
    """Set all rows on pages that have nothing around them yet."""
    plan = plan_of(report, parameters)
    layout, sections = Layout(plan, parameters), Sections(plan, typesetter, style)
    if style.front is not None:
        await sections.put_front(style.front)
    async with frames(chunks, most=style.section_items) as parts:
        async for rows in parts:
            items = layout.feed(rows)
            await sections.add(items, layout.rows)
            told(Progress(records=layout.rows_count, skipped=layout.skipped_count, pages=len(sections.pages)))
    await sections.add(layout.finish(), layout.rows.clear())
    await sections.finish()
    told(Progress(records=layout.rows_count, skipped=layout.skipped_count, pages=len(sections.pages)))
    return layout, sections
