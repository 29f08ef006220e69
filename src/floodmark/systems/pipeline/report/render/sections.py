"""Sections: a report set some hundred rows at a time, each section on pages of its own, as if it had been set in one go.

Items are collected until there are enough for a section; it is compiled in the typesetter's process, and tells on which page each item
begins. All of its pages but the last are kept. What stands on the last one is carried into the next section, so that no page stays half
empty at a seam. What stands around the pages is decided when it is known what is on them, and laid over later, when it is known how many
there are. Memory: the items of one section; a few texts for each page.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from floodmark.systems.pipeline.report.bands import BandKind, Label
from floodmark.systems.pipeline.report.render.base import Front, Style
from floodmark.systems.pipeline.report.render.fold import Fold
from floodmark.systems.pipeline.report.render.geometry import Geometry, geometry_of
from floodmark.systems.pipeline.report.render.layout import BEGINS, Item
from floodmark.systems.pipeline.report.render.plan import PAGE, Plan
from floodmark.systems.pipeline.report.render.printable import breakable
from floodmark.systems.pipeline.report.render.typesetter import Typesetter

TEMPLATE = Path(__file__).with_name("template.typ").read_bytes()
LONG_BYTES = 1500  # a row with more text may be broken across pages; others are not
SECTION_TEXT_BYTES = 1_000_000  # a section ends early when it holds this much text
HEADER_AT_PT, FOOTER_PT = 31.0, 26.0  # white above a page's header and below its footer
HEADINGS_GAP_PT = 4.0  # between the columns' headings and the first row
MARGIN_PT = 56.69  # 2 cm
TOGETHER_COUNT = 2  # rows of a group that stay with its header, or with its footer

_encode = msgspec.json.Encoder().encode


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around one page: the texts of its bands, and whether it has column headings."""

    header: list[list[str]]
    footer: list[list[str]]
    headings: bool


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled section. Its file may hold more pages; only the first `pages` count."""

    file: Path
    data: Path
    pages: int


class Sections:
    """The pages of one report, growing."""

    def __init__(self, plan: Plan, typesetter: Typesetter, style: Style) -> None:
        self.plan, self.typesetter, self.style = plan, typesetter, style
        self.done: list[Section] = []
        self.pages: list[Page] = []
        self._items: list[Item] = []
        self._text_bytes = 0
        self._geometry: Geometry | None = None
        self._config: dict[str, Any] = {}
        self._headers, self._footers = plan.of(BandKind.PAGE_HEADER), plan.of(BandKind.PAGE_FOOTER)
        around = [cell for number in (*self._headers, *self._footers) for cell in plan.bands[number].cells]
        self._fold = Fold(plan, BandKind.PAGE_HEADER, BandKind.PAGE_FOOTER) if any(cell.formula for cell in around) else None
        self._rows: list[pl.DataFrame] = []  # of the items that are not on a kept page yet; only where pages print something of them
        self._rows_start = 0
        self._row: dict[str, Any] = {}  # the last one of the page before
        self.front_pages = 0

    async def put_front(self, front: Front) -> None:
        """Set what comes before the report, ahead of its first row. Raises: as `compile_template`."""
        file = self.typesetter.folder / "front.pdf"
        typeset = await self.typesetter.compile(front.template.encode(), front.files, out=file, strict_fonts=True)
        header, footer = self._page(pl.DataFrame(), 0, 0)
        self.pages += [Page(header=header, footer=footer, headings=False)] * typeset.pages
        self.done.append(Section(file=file, data=file, pages=typeset.pages))
        self.front_pages = typeset.pages

    async def add(self, items: Sequence[Item], rows: pl.DataFrame) -> None:
        """Take items in, and the rows that are among them; compile a section when there are enough."""
        if self._fold is not None and len(rows):
            self._rows.append(rows)
        for item in items:
            self._items.append(item)
            self._text_bytes += sum(map(len, item.texts))
            if len(self._items) >= self.style.section_items or self._text_bytes >= SECTION_TEXT_BYTES:
                await self._compile(last=False)

    async def finish(self) -> None:
        """Compile what is left. A report without any item is an empty page."""
        if self._items or len(self.pages) == self.front_pages:
            await self._compile(last=True)

    def config(self, *, furniture: Sequence[Page] | None = None, first: int = 1, track: bool = False, upright: bool = False) -> bytes:
        """The template's configuration. `furniture` stands around the pages from number `first` on, `upright` even if those are not."""
        around = None
        if furniture is not None:
            around = [self._numbered(page, number) for number, page in enumerate(furniture, start=first)]
        turned = {"flipped": False} if upright else {}
        return _encode(self._config | {"furniture": around, "track": track} | turned)

    async def _compile(self, *, last: bool) -> None:
        if self._geometry is None:
            await self._decide()
        number = len(self.done)
        data = _encode({"blocks": self._blocks(), "pages": 1})
        data_file, file = self.typesetter.folder / f"section-{number}.json", self.typesetter.folder / f"section-{number}.pdf"
        data_file.write_bytes(data)
        typeset = await self.typesetter.compile(
            TEMPLATE, {"data.json": data, "config.json": self.config(track=True)}, out=file, attachment="pages.json"
        )
        firsts = _first_items(typeset.attachment, typeset.pages, len(self._items))
        kept = typeset.pages if last else _seam(typeset.attachment, firsts)
        if kept == 0:  # all of it is one page: more of it is needed before there is a seam
            self._text_bytes = -SECTION_TEXT_BYTES if self._text_bytes < SECTION_TEXT_BYTES * 4 else 0
            if len(self._items) < 4 * self.style.section_items:
                return
            kept = typeset.pages
        self._around([*firsts[:kept], firsts[kept] if kept < typeset.pages else len(self._items)])
        self.done.append(Section(file=file, data=data_file, pages=kept))
        self._items = self._items[firsts[kept] :] if kept < typeset.pages else []
        self._text_bytes = sum(len(text) for item in self._items for text in item.texts)

    async def _decide(self) -> None:
        """Decide how bands look from the first section, and how much room there must be around a page."""
        sample: dict[int, list[Sequence[str]]] = {}
        for item in self._items:
            sample.setdefault(item.band, []).append(item.texts)
        geometry = self._geometry = geometry_of(self.plan, sample, size_pt=self.style.size_pt)
        report = self.plan.report
        self._config = {
            "title": report.title,
            "author": [report.author] if report.author else [],
            "paper": "a4",
            "flipped": geometry.flipped,
            "width": geometry.width_pt,
            "size": self.style.size_pt,
            "fonts": list(self.style.fonts),
            "bands": geometry.bands,
            "headings": geometry.headings,
            "page_headers": self._headers,
            "page_footers": self._footers,
            "long": LONG_BYTES,
            "gap": HEADINGS_GAP_PT,
            "header_at": HEADER_AT_PT,
            "top": MARGIN_PT,
            "bottom": MARGIN_PT,
            "measure": False,
        }
        page = Page(header=self._texts(self._headers, sample), footer=self._texts(self._footers, sample), headings=True)
        widest = self._numbered(page, 88_888)
        probe = _encode(self._config | {"measure": True, "sample": widest, "furniture": None, "track": False})
        measured = await self.typesetter.compile(
            TEMPLATE,
            {"data.json": blank(1), "config.json": probe},
            out=self.typesetter.folder / "probe.pdf",
            attachment="measured.json",
        )
        tall = measured.attachment
        header = HEADER_AT_PT + tall["header"] + 8 if tall["header"] else 0.0
        headings = tall["headings"] + HEADINGS_GAP_PT if tall["headings"] else 0.0
        self._config["top"] = max(MARGIN_PT, header) + headings
        self._config["bottom"] = max(MARGIN_PT, FOOTER_PT + tall["footer"] + 8)

    def _texts(self, numbers: Sequence[int], sample: dict[int, list[Sequence[str]]]) -> list[list[str]]:
        """What bands around a page might say, for measuring: fields of the widest row of the sample would be guesswork, a letter is not."""
        return [[cell.heading if cell.formula is None else "0" for cell in self.plan.bands[number].cells] for number in numbers]

    # What stands in a section.

    def _blocks(self) -> list[dict[str, Any]]:
        """The items as runs of one band each; a few rows of a group stay with its header and its footer."""
        assert self._geometry is not None
        blocks: list[dict[str, Any]] = []
        items, start = self._items, 0
        while start < len(items):
            end = start + 1
            band = items[start].band
            kind = self.plan.bands[band].kind
            while end < len(items) and items[end].band == band:
                end += 1
            if kind is BandKind.DETAIL:
                after_header = start > 0 and self.plan.bands[items[start - 1].band].kind is BandKind.GROUP_HEADER
                before_footer = end < len(items) and self.plan.bands[items[end].band].kind in (BandKind.GROUP_FOOTER, BandKind.SUMMARY)
                first = start + (min(TOGETHER_COUNT, end - start) if after_header else 0)
                tail = max(end - TOGETHER_COUNT, first) if before_footer else end
                for a, b in ((start, first), (first, tail), (tail, end)):
                    if a < b:
                        blocks.append(self._block(band, a, b, together=a != first or b != tail, sticky=before_footer and b == end))
            else:
                sticky = kind is BandKind.GROUP_HEADER or (
                    kind is BandKind.GROUP_FOOTER and end < len(items) and self.plan.bands[items[end].band].kind is BandKind.GROUP_FOOTER
                )
                blocks.append(self._block(band, start, end, together=False, sticky=sticky))
                if kind is BandKind.TITLE and self._geometry.headings and end < len(items):
                    blocks.append({"band": band, "first": -1, "sticky": True, "together": True, "rows": [], "headings": True})
            start = end
        return blocks

    def _block(self, band: int, start: int, end: int, *, together: bool, sticky: bool) -> dict[str, Any]:
        assert self._geometry is not None
        shape = self._geometry.bands[band]
        rows: list[Sequence[str]] = [item.texts for item in self._items[start:end]]
        if shape.letters:
            least = min(shape.letters)
            rows = [
                [breakable(text, limit) for text, limit in zip(texts, shape.letters, strict=True)]
                if max(map(len, texts)) > least
                else texts
                for texts in rows
            ]
        return {
            "band": band,
            "first": start,
            "sticky": sticky,
            "together": together,
            "rows": rows,
            "headings": False,
        }

    # What stands around its pages.

    def _around(self, firsts: Sequence[int]) -> None:
        """Decide what stands around the pages whose first items are these; the last entry is where the next section begins."""
        rows = pl.concat(self._rows) if self._rows else pl.DataFrame()
        for begin, end in pairwise(firsts):
            details = any(self.plan.bands[item.band].kind is BandKind.DETAIL for item in self._items[begin:end])
            titled = begin < len(self._items) and self.plan.bands[self._items[begin].band].kind is BandKind.TITLE
            header, footer = self._page(rows, self._row_at(begin), self._row_at(end))
            self.pages.append(Page(header=header, footer=footer, headings=details and not titled))
        if self._fold is not None:
            taken = self._row_at(firsts[-1]) - self._rows_start
            self._rows = [rows.slice(taken)] if taken < len(rows) else []
            self._rows_start += taken

    def _row_at(self, index: int) -> int:
        """How many rows of the report stand above an item of this section, or above what comes behind it."""
        if index < len(self._items):
            return self._items[index].rows_before
        last = self._items[-1] if self._items else None
        if last is None:
            return self._rows_start
        return last.rows_before + (self.plan.bands[last.band].kind is BandKind.DETAIL)

    def _page(self, rows: pl.DataFrame, begin: int, end: int) -> tuple[list[list[str]], list[list[str]]]:
        fold = self._fold
        if fold is None:
            return self._fixed(self._headers), self._fixed(self._footers)
        of_page = rows.slice(begin - self._rows_start, end - begin) if end > begin else rows.clear()
        fold.begin(PAGE)
        above = fold.values(of_page.row(0, named=True) if len(of_page) else self._row)
        header = [[above.text(cell) for cell in self.plan.bands[number].cells] for number in self._headers]
        if len(of_page):
            marks = of_page[BEGINS]
            fold.advance(of_page, {row: marks[row] for row in marks.is_not_null().arg_true().to_list()})
            self._row = of_page.row(-1, named=True)
        below = fold.values(self._row)
        return header, [[below.text(cell) for cell in self.plan.bands[number].cells] for number in self._footers]

    def _fixed(self, numbers: Sequence[int]) -> list[list[str]]:
        return [[cell.heading for cell in self.plan.bands[number].cells] for number in numbers]

    def _numbered(self, page: Page, number: int) -> dict[str, Any]:
        """Put the page's number, and how many there are, into its labels."""

        def put(numbers: Sequence[int], bands: list[list[str]]) -> list[list[str]]:
            return [
                [
                    text.replace("{page}", f"{number:,}").replace("{pages}", f"{max(len(self.pages), number):,}")
                    if isinstance(cell.element, Label)
                    else text
                    for cell, text in zip(self.plan.bands[band].cells, texts, strict=True)
                ]
                for band, texts in zip(numbers, bands, strict=True)
            ]

        return {"header": put(self._headers, page.header), "footer": put(self._footers, page.footer), "headings": page.headings}


def blank(pages: int) -> bytes:
    """The data of a document of empty pages, for what stands around them."""
    return _encode({"blocks": [], "pages": pages})


def _first_items(attachment: dict[str, Any], pages: int, count: int) -> list[int]:
    """The first item that begins on each page; on a page that only continues one, the first that begins behind it."""
    firsts = [count] * pages
    for item, page in reversed(attachment["begins"]):
        firsts[page - 1] = item
    for page in range(pages - 2, -1, -1):
        firsts[page] = min(firsts[page], firsts[page + 1])
    return firsts


def _seam(attachment: dict[str, Any], firsts: Sequence[int]) -> int:
    """How many pages to keep so that the next section can begin with a fresh item on a fresh page; 0 when there is no such place."""
    begins = dict(attachment["begins"])
    broken = [(begins[item], page) for item, page in attachment["ends"] if page > begins[item]]
    for page in range(len(firsts), 1, -1):  # the page that is to be carried
        starts = begins.get(firsts[page - 1]) == page
        if starts and not any(begin < page <= end for begin, end in broken):
            return page - 1
    return 0
