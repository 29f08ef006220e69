"""HTML: one file that needs nothing else, written row by row; light and dark as the reader's system is, with a style for print.

The whole report is one page: what a page header or footer says of its page, it says of the report; labels with a page number are left to
the printer. No script runs and nothing is loaded (the file forbids itself both), and every text is escaped.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import IO, Any

from floodmark.systems.pipeline.report.bands import BandKind
from floodmark.systems.pipeline.report.model import Report
from floodmark.systems.pipeline.report.render.base import Chunk, Out, Progress, Rendered, Style, Told, frames, opened
from floodmark.systems.pipeline.report.render.fold import Fold, Values
from floodmark.systems.pipeline.report.render.geometry import BandShape, Geometry, Strip, StripCell, geometry_of, widths_pt
from floodmark.systems.pipeline.report.render.layout import BEGINS, Item, Layout
from floodmark.systems.pipeline.report.render.plan import Plan, plan_of
from floodmark.systems.pipeline.report.render.printable import printable

STYLE = Path(__file__).with_name("page.css").read_text()
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


async def render_html(
    report: Report, chunks: AsyncIterable[Chunk], out: Out, *, parameters: Mapping[str, Any], style: Style, told: Told
) -> Rendered:
    """Render a report as a web page."""
    began_s = time.monotonic()
    plan = plan_of(report, parameters)
    layout = Layout(plan, parameters)
    with opened(out) as file:
        page = _Page(plan, file, style)
        async with frames(chunks, most=max(style.section_items, 1000)) as parts:
            async for rows in parts:
                items = layout.feed(rows)
                page.add(items, layout)
                told(Progress(records=layout.rows_count, skipped=layout.skipped_count, pages=0))
        page.finish(layout.finish())
    return Rendered(
        pages=1,
        records=layout.rows_count,
        skipped=layout.skipped_count,
        skipped_reason=layout.skipped_reason,
        bytes=page.size_bytes,
        seconds=time.monotonic() - began_s,
        files=(out,) if isinstance(out, Path) else (),
    )


class _Page:
    """The page on its way to the file."""

    def __init__(self, plan: Plan, file: IO[bytes], style: Style) -> None:
        self.plan, self._file, self._style = plan, file, style
        self.size_bytes = 0
        self._fold = Fold(plan, BandKind.PAGE_HEADER, BandKind.PAGE_FOOTER)
        self._row: Mapping[str, Any] = {}  # the last one so far
        self._held: list[Item] = []  # until there are rows to decide the columns by
        self._geometry: Geometry | None = None
        self._table: Strip | None = None  # the columns that the rows and what stands under them share

    def add(self, items: Sequence[Item], layout: Layout) -> None:
        """Write what a chunk has made."""
        self._held += items
        rows = layout.rows
        if not len(rows):
            return
        if self._geometry is None:
            self._begin(rows.row(0, named=True))
        marks = rows[BEGINS]
        self._fold.advance(rows, {row: marks[row] for row in marks.is_not_null().arg_true().to_list()})
        self._row = rows.row(-1, named=True)
        self._flush()

    def finish(self, items: Sequence[Item]) -> None:
        """Write the end of the page."""
        self._held += items
        if self._geometry is None:
            self._begin({})
        self._flush()
        self._write("</tbody></table></div>\n" + self._around("footer", BandKind.PAGE_FOOTER, self._fold.values(self._row)))
        self._write("</main>\n</body>\n</html>\n")

    def _write(self, text: str) -> None:
        self.size_bytes += self._file.write(text.encode())

    def _begin(self, first: Mapping[str, Any]) -> None:
        """Decide the columns, and write all that stands above the first row."""
        sample: dict[int, list[Sequence[str]]] = {}
        for item in self._held:
            sample.setdefault(item.band, []).append(item.texts)
        geometry = self._geometry = geometry_of(self.plan, sample, size_pt=self._style.size_pt)
        details = [geometry.bands[number] for number in self.plan.of(BandKind.DETAIL)]
        self._table = next((strip for shape in details for strip in shape.strips if not strip.rule), None)
        report = self.plan.report
        author = f'<meta name="author" content="{escape(printable(report.author))}">\n' if report.author else ""
        title = escape(printable(report.title))
        self._write(
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n{author}'
            f"<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        )
        self._write(self._around("header", BandKind.PAGE_HEADER, self._fold.values(first)))
        titles = [item for item in self._held if geometry.bands[item.band].kind == BandKind.TITLE]
        self._held = [item for item in self._held if geometry.bands[item.band].kind != BandKind.TITLE]
        for item in titles:
            self._write("".join(self._line(strip, texts, tag="h1") for strip, texts in _split(geometry.bands[item.band], item.texts)))
        self._write('<div class="scroll"><table>\n' + self._head() + "<tbody>\n")

    def _head(self) -> str:
        assert self._geometry is not None
        if self._table is None:
            return ""
        widths = widths_pt(self._table.columns, self._geometry.width_pt)
        cols = "".join(f'<col style="width:{100 * width / sum(widths):.1f}%">' for width in widths)
        rows = ""
        for number in self._geometry.headings:
            shape = self._geometry.bands[number]
            cells = [cell for strip in shape.strips for cell in strip.cells]
            names = zip(cells, shape.headings, strict=True)
            rows += "<tr>" + "".join(f'<th scope="col"{_class(cell.align)}>{_text(name)}</th>' for cell, name in names) + "</tr>\n"
        return f"<colgroup>{cols}</colgroup>\n" + (f"<thead>\n{rows}</thead>\n" if rows else "")

    def _flush(self) -> None:
        self._write("".join(map(self._item, self._held)))
        self._held = []

    def _item(self, item: Item) -> str:
        """HOT: a band as rows of the table."""
        assert self._geometry is not None
        assert self._table is not None or self._geometry.bands
        shape = self._geometry.bands[item.band]
        kind = "" if shape.kind == BandKind.DETAIL else f"{shape.kind.replace('_', '-')} level-{shape.level}"
        rows = []
        for strip, texts in _split(shape, item.texts):
            if self._table is not None and strip.cells and strip.columns == self._table.columns:
                cells = "".join(_cell(cell, text) for cell, text in texts)
            else:
                count = len(self._table.columns) if self._table is not None else 1
                cells = f'<td colspan="{count}">{self._line(strip, texts, tag="div")}</td>'
            rows.append(f'<tr class="{kind}">{cells}</tr>\n' if kind else f"<tr>{cells}</tr>\n")
        return "".join(rows)

    def _line(self, strip: Strip, texts: Sequence[tuple[StripCell, str]], *, tag: str) -> str:
        """A line of cells that belongs to no column, or a rule."""
        if strip.rule:
            return f'<hr style="border-top-width:{strip.rule:g}pt">'
        parts = []
        for (cell, text), (unit, width) in zip(texts, strip.columns, strict=True):
            grow = f"flex:{width:g} 1 0" if unit == "fr" else "flex:none"
            weight = "strong" if cell.bold else "span"
            parts.append(f'<{weight}{_class(cell.align)} style="{grow}">{_text(text)}</{weight}>')
        return f'<{tag} class="line">{"".join(parts)}</{tag}>\n'

    def _around(self, tag: str, kind: BandKind, moment: Values) -> str:
        """The bands around the page, without the labels that number it."""
        assert self._geometry is not None
        lines = []
        for number in self.plan.of(kind):
            cells = self.plan.bands[number].cells
            texts = ["" if "{page" in moment.text(cell) and cell.formula is None else moment.text(cell) for cell in cells]
            if any(texts):
                lines += [self._line(strip, parts, tag="div") for strip, parts in _split(self._geometry.bands[number], texts)]
        return f"<{tag}>\n{''.join(lines)}</{tag}>\n" if lines else ""


def _split(shape: BandShape, texts: Sequence[str]) -> list[tuple[Strip, list[tuple[StripCell, str]]]]:
    """The strips of a band, each with its cells and their texts."""
    left = iter(texts)
    return [
        (strip, [(cell, "" if cell.blank else (f"{cell.caption}: " if cell.caption else "") + next(left)) for cell in strip.cells])
        for strip in shape.strips
    ]


def _cell(cell: StripCell, text: str) -> str:
    span = f' colspan="{cell.span}"' if cell.span > 1 else ""
    bar = f' style="border-left:{cell.bar:g}pt solid"' if cell.bar else ""
    inner = _text(text)
    return f"<td{_class(cell.align)}{span}{bar}>{f'<strong>{inner}</strong>' if cell.bold else inner}</td>"


def _class(align: str) -> str:
    return "" if align == "left" else f' class="{align}"'


def _text(text: str) -> str:
    return escape(text).replace("\n", "<br>") if text else ""
