"""HTML: one file that stands for itself, whose text is text and whose tags are balanced."""

from __future__ import annotations

import asyncio
import io
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from floodmark.systems.pipeline.report import Band, Field, Label, Line
from floodmark.systems.pipeline.report.render import render
from tests.systems.pipeline.report.render.shown import BANDS, NASTY, chunks, plain_report, sales, shown_report, written

VOID = {"meta", "col", "br", "hr"}


class Reader(HTMLParser):
    """Collects the texts of a page and sees that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.rows: list[tuple[str, list[str]]] = []  # class and cells
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "onclick", "onload")]
        if tag == "tr":
            self.rows.append((known.get("class") or "", []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open or not data.strip():
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][1][-1] += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    reader.close()
    assert reader.open == []
    return reader


def test_render_html_rows_headings_and_totals(tmp_path: Path) -> None:
    out = tmp_path / "report.html"

    rendered = written(shown_report(), sales(100), out)

    page = read(out)
    assert page.rows[0] == ("", ["Product", "Quantity", "Amount"])
    assert [cells for kind, cells in page.rows[1:] if not kind] == [[f"Product {n}", str(n % 5), f"€{n}.01"] for n in range(100)]
    assert ("group-footer level-1", ["Territory total", "€780.40"]) in page.rows
    assert page.rows[-1] == ("summary level-0", ["Grand total", "€4,951.00"])
    assert (rendered.pages, rendered.records, rendered.bytes) == (1, 100, out.stat().st_size)


def test_render_html_page_bands_stand_around_the_whole(tmp_path: Path) -> None:
    out = tmp_path / "report.html"

    written(shown_report(), sales(100), out)

    page = read(out)
    assert page.texts[:4] == ["Sales by territory", "Harbour supplies", "T0", "Sales by territory"]
    assert page.texts[-2:] == ["here: 100", "so far: 100"]
    assert not any("{page}" in text for text in page.texts)


@pytest.mark.parametrize("nasty", NASTY)
def test_render_html_markup_in_a_value_comes_out_as_text(tmp_path: Path, nasty: str) -> None:
    out = tmp_path / "report.html"
    rows = sales(1).with_columns(product=pl.lit(nasty), territory=pl.lit(nasty))
    report = shown_report(bands=(*BANDS[:-1], Band(kind="summary", elements=(Label(text=nasty),))), title=nasty, author=nasty)

    written(report, rows, out)

    assert read(out).texts.count(nasty) == 5  # title, header of the page and of the group, row, summary


def test_render_html_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "report.html"

    written(shown_report(), sales(3), out)

    assert read(out).loads == []
    assert "default-src 'none'" in out.read_text()
    assert "url(" not in out.read_text()
    assert "prefers-color-scheme: dark" in out.read_text()
    assert "@media print" in out.read_text()


def test_render_html_to_an_open_stream(tmp_path: Path) -> None:
    stream = io.BytesIO()

    rendered = asyncio.run(render(plain_report(), chunks(sales(5)), stream, format="html"))

    assert stream.getvalue().endswith(b"</html>\n")
    assert rendered.bytes == len(stream.getvalue())
    assert rendered.files == ()


def test_render_html_without_rows_is_still_a_page(tmp_path: Path) -> None:
    out = tmp_path / "report.html"

    rendered = written(shown_report(), sales(0), out)

    assert rendered.records == 0
    assert "Grand total" in read(out).texts


def test_render_html_lines_and_line_breaks(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    detail = Band(
        kind="detail", elements=(Field(source="product"), Line(direction="vertical"), Field(source="quantity"), Line(thickness_pt=2))
    )

    written(plain_report(bands=(detail,)), sales(2).with_columns(product=pl.lit("one\ntwo")), out)

    text = out.read_text()
    assert read(out)
    assert text.count("one<br>two") == 2
    assert text.count('style="border-left:1pt solid"') == 2
    assert text.count("border-top-width:2pt") == 2
