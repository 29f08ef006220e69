"""PDF: sections that look as if they had been set in one go, page numbers, text that stays text, errors that leave nothing behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pikepdf
import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.report import Band, Field, Group, Label, Report
from floodmark.systems.pipeline.report.render import FontError, Front, Progress, Rendered, Style, render
from tests.systems.pipeline.report.render.pdf_text import pages_of
from tests.systems.pipeline.report.render.shown import BANDS, NASTY, chunks, plain_report, running_report, sales, shown_report, written


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A file that several tests read, and what was told of it when it was written."""

    rendered: Rendered
    path: Path
    pages: list[list[str]]


@pytest.fixture(scope="module")
def in_sections(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """400 rows in sections of 90 items."""
    path = tmp_path_factory.mktemp("sections") / "report.pdf"
    rendered = written(shown_report(), sales(400), path, style=Style(section_items=90))
    return Read(rendered=rendered, path=path, pages=pages_of(path))


def test_render_pdf_every_row_appears_once_in_order(in_sections: Read) -> None:
    texts = [text for page in in_sections.pages for text in page]

    assert [text for text in texts if text.startswith("Product ")] == [f"Product {number}" for number in range(400)]
    assert (in_sections.rendered.records, in_sections.rendered.skipped) == (400, 0)
    assert in_sections.rendered.bytes == in_sections.path.stat().st_size


def test_render_pdf_in_sections_same_pages_as_in_one_go(in_sections: Read, tmp_path: Path) -> None:
    written(shown_report(), sales(400), tmp_path / "whole.pdf", style=Style(section_items=5000))

    assert pages_of(tmp_path / "whole.pdf") == in_sections.pages


def test_render_pdf_page_numbers_run_across_sections(in_sections: Read) -> None:
    pages = in_sections.pages

    said = [[text for text in page if text.startswith("Page ")] for page in pages]

    assert in_sections.rendered.pages == len(pages) > 5
    assert said == [[f"Page {number} of {len(pages)}"] for number in range(1, len(pages) + 1)]


def test_render_pdf_page_bands_speak_of_their_own_page(in_sections: Read) -> None:
    so_far = 0
    for page in in_sections.pages:
        products = [int(text.split()[1]) for text in page if text.startswith("Product ")]
        so_far += len(products)
        assert f"here: {len(products)}" in page
        assert f"so far: {so_far}" in page
        if products:
            assert f"T{products[0] // 40}" in page[page.index("Harbour supplies") :]  # the header names the first row's territory
    assert so_far == 400


def test_render_pdf_groups_have_headers_and_exact_totals(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    written(shown_report(), sales(100), out)

    texts = [text for page in pages_of(out) for text in page]
    after = {texts[place - 1]: texts[place] for place in range(1, len(texts))}
    assert [text for text in texts if re.fullmatch(r"C\d+", text)] == [
        *(f"C{number}" for number in range(6)),
        *(f"C{number}" for number in range(5, 12)),  # C5 has rows in two territories, and so has C11
        *(f"C{number}" for number in range(11, 15)),
    ]
    totals = [texts[place + 1] for place, text in enumerate(texts) if text == "Territory total"]
    assert totals == ["€780.40", "€2,380.40", "€1,790.20"]  # sums of i + 0.01 over 40, 40 and 20 rows
    assert after["Grand total"] == "€4,951.00"


def test_render_pdf_group_header_never_last_on_its_page(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    written(shown_report(), sales(600, per_customer=3), out, style=Style(section_items=100))

    for page in pages_of(out):
        content = page[: page.index("Harbour supplies")]
        headers = [place for place, text in enumerate(content) if re.fullmatch(r"C\d+", text)]
        assert all(any(text.startswith("Product ") for text in content[place:]) for place in headers)


def test_render_pdf_seams_leave_no_half_empty_page(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    written(plain_report(), sales(500), out, style=Style(section_items=100))

    counts = [sum(text.startswith("Product ") for text in page) for page in pages_of(out)]
    assert len(set(counts[:-1])) == 1
    assert counts[-1] <= counts[0]


def test_render_pdf_headings_on_every_page_with_rows(in_sections: Read) -> None:
    for page in in_sections.pages:
        assert page.count("Quantity") == (1 if any(text.startswith("Product ") for text in page) else 0)


@pytest.fixture(scope="module")
def nasty_pages(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pages on which every nasty value stands once in every kind of place, without blanks; three to a page, so that none is broken."""
    path = tmp_path_factory.mktemp("nasty") / "report.pdf"
    texts = []
    for start in range(0, len(NASTY), 3):
        row = {f"value_{number}": nasty for number, nasty in enumerate(NASTY[start : start + 3])}
        fields = tuple(Field(source=name) for name in row)
        bands = (
            Band(kind="page_header", elements=fields),
            *(Band(kind="group_header", group_level=level, elements=(field,)) for level, field in enumerate(fields, start=1)),
            Band(kind="detail", elements=fields),
            Band(kind="summary", elements=tuple(Label(text=nasty) for nasty in row.values())),
        )
        groups = tuple(Group(level=level, name=name) for level, name in enumerate(row, start=1))
        report = shown_report(title="".join(row.values()), fields=dict.fromkeys(row, str), groups=groups, bands=bands)
        written(report, pl.DataFrame([row]), path)
        (page,) = pages_of(path)
        texts += page
    return "".join(texts).replace(" ", "")


@pytest.mark.parametrize("nasty", NASTY)
def test_render_pdf_markup_in_a_value_comes_out_as_text(nasty_pages: str, nasty: str) -> None:
    assert nasty_pages.count(nasty.replace(" ", "")) == 4  # header of the page and of the group, row, summary


def test_render_pdf_names_its_title_and_author(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    written(shown_report(title="Größe & <Ehre>"), sales(3), out)

    with pikepdf.open(out) as pdf:
        assert str(pdf.docinfo["/Title"]) == "Größe & <Ehre>"
        assert str(pdf.docinfo["/Author"]) == "Ada Harbour"
        assert [float(side) for side in pdf.pages[0].mediabox] == pytest.approx([0, 0, 595.28, 841.89], abs=0.1)


def test_render_pdf_without_rows_title_summary_and_one_page(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    rendered = written(shown_report(), sales(0), out)

    (page,) = pages_of(out)
    assert rendered.records == 0
    assert {"Sales by territory", "Grand total", "Page 1 of 1"} <= set(page)


def test_render_pdf_row_longer_than_a_page_is_broken_and_kept_whole(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    long = " ".join(f"w{number}" for number in range(4000))
    rows = sales(120).with_columns(product=pl.when(pl.int_range(pl.len()) == 60).then(pl.lit(long)).otherwise(pl.col("product")))

    written(plain_report(), rows, out, style=Style(section_items=50))

    texts = [text for page in pages_of(out) for text in page]
    assert re.findall(r"\bw\d+", " ".join(texts)) == long.split()
    assert sum(text.startswith("Product ") for text in texts) == 119


def test_render_pdf_word_longer_than_its_column_stays_on_the_page(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    rows = sales(2).with_columns(product=pl.lit("x" * 300))

    written(plain_report(), rows, out)

    lines = [text for text in pages_of(out)[0] if set(text) == {"x"}]
    assert sum(map(len, lines)) == 600
    assert max(map(len, lines)) < 120


def test_render_pdf_many_columns_turn_the_page(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    names = [f"column_number_{number}" for number in range(14)]
    rows = pl.DataFrame({name: ["a value of some length"] for name in names})

    written(plain_report(fields=dict.fromkeys(names, str), bands=()), rows, out)

    with pikepdf.open(out) as pdf:
        assert float(pdf.pages[0].mediabox[2]) == pytest.approx(841.89, abs=0.1)


def test_render_pdf_variables_of_the_page_begin_anew_on_each(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    written(running_report(), sales(200), out, style=Style(section_items=80))

    for page in pages_of(out):
        products = [int(text.split()[1]) for text in page if text.startswith("Product ")]
        foot = page[next(place for place, text in enumerate(page) if re.fullmatch(r"p\d+", text)) + 1 :]
        assert foot == [str(len(products)), str(products[-1] % 5)]


def test_render_pdf_unreadable_row_left_out_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    rows = sales(10).with_columns(amount=pl.when(pl.int_range(pl.len()) == 4).then(pl.lit("many")).otherwise(pl.col("amount")))

    rendered = written(plain_report(), rows, out)

    assert (rendered.records, rendered.skipped) == (9, 1)
    assert "amount" in rendered.skipped_reason
    assert "Product 4" not in pages_of(out)[0]


def test_render_pdf_tells_its_progress(tmp_path: Path) -> None:
    told: list[Progress] = []

    written(plain_report(), sales(200), tmp_path / "report.pdf", progress=told.append, style=Style(section_items=100))

    assert [progress.records for progress in told] == [50, 100, 150, 200, 200]
    assert told[-1].pages == len(pages_of(tmp_path / "report.pdf"))


def test_render_pdf_stream_fails_no_file_is_left(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    out.write_bytes(b"the report of yesterday")

    async def failing() -> AsyncIterator[pl.DataFrame]:
        yield sales(200)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        asyncio.run(render(plain_report(), failing(), out, style=Style(section_items=50)))

    assert [path.name for path in tmp_path.iterdir()] == ["report.pdf"]
    assert out.read_bytes() == b"the report of yesterday"


def test_render_pdf_cancelled_in_a_section_no_file_and_no_process_is_left(tmp_path: Path) -> None:
    async def cancelled() -> None:
        begun = asyncio.Event()

        def told(progress: Progress) -> None:
            if progress.pages:
                begun.set()

        style = Style(section_items=200)
        rendering = asyncio.create_task(render(plain_report(), chunks(sales(20_000)), tmp_path / "report.pdf", progress=told, style=style))
        await asyncio.wait_for(begun.wait(), 20)
        rendering.cancel()
        await rendering

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())

    assert list(tmp_path.iterdir()) == []  # that no process is left is seen by the fixture around every test


def test_render_pdf_folder_missing_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        written(plain_report(), sales(1), tmp_path / "nowhere" / "report.pdf")


def test_render_pdf_field_missing_in_rows_named(tmp_path: Path) -> None:
    rows = sales(3).drop("amount")

    with pytest.raises(UsageError, match="amount"):
        written(plain_report(), rows, tmp_path / "report.pdf")

    assert list(tmp_path.iterdir()) == []


def test_render_pdf_report_without_bands_gets_the_obvious_ones(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    written(shown_report(bands=()), sales(50), out)

    texts = [text for page in pages_of(out) for text in page]
    assert "Sales by territory" in texts
    assert "Records: 50" in texts
    assert texts[-1] == "Page 2 of 2"


def test_band_order_of_the_fixture_holds() -> None:
    assert [band.kind for band in BANDS][4] == "detail"
    assert isinstance(BANDS[4].elements[0], Field)


FRONT = Front(
    template='#set page(paper: "a4")\n= Cover\n#read("words.txt")\n#pagebreak()\n= Second\nmore', files={"words.txt": b"the words"}
)


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """100 rows in sections of 60 items, behind a front."""
    path = tmp_path_factory.mktemp("fronted") / "report.pdf"
    rendered = written(shown_report(), sales(100), path, style=Style(section_items=60, front=FRONT))
    return Read(rendered=rendered, path=path, pages=pages_of(path))


def test_render_pdf_front_comes_first_and_is_counted_with_the_pages(fronted: Read, tmp_path: Path) -> None:
    alone = tmp_path / "alone.pdf"
    written(shown_report(), sales(100), alone, style=Style(section_items=60))

    pages = fronted.pages

    assert fronted.rendered.pages == len(pages) == len(pages_of(alone)) + 2
    assert "".join(pages[0]).startswith("Coverthe words")
    assert [text for page in pages for text in page if text.startswith("Page ")] == [
        f"Page {number} of {len(pages)}" for number in range(1, len(pages) + 1)
    ]
    assert [text for page in pages[2:] for text in page if text.startswith("Product ")] == [f"Product {number}" for number in range(100)]


def test_render_pdf_front_outline_is_kept_and_leads_to_its_pages(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"

    written(plain_report(), sales(5), out, style=Style(front=FRONT))

    with pikepdf.open(out) as opened, opened.open_outline() as outline:
        pages = [page.obj.objgen for page in opened.pages]
        assert [(str(item.title), pages.index(cast("Any", item.destination)[0].objgen)) for item in outline.root] == [
            ("Cover", 0),
            ("Second", 1),
            (plain_report().title, 2),
        ]


def test_render_pdf_upright_front_stays_so_before_turned_pages(tmp_path: Path) -> None:
    wide = Report(name="wide", query="sales", fields=dict.fromkeys([f"a_rather_wide_column_{number}" for number in range(12)], str))
    rows = pl.DataFrame([dict.fromkeys(wide.fields, "some words of text") for _ in range(3)])
    out = tmp_path / "report.pdf"

    written(wide, rows, out, style=Style(front=FRONT))

    with pikepdf.open(out) as opened:
        boxes = [[float(side) for side in page.mediabox] for page in opened.pages]
    assert [width < height for _, _, width, height in boxes] == [True, True, False]
    assert [[text for text in page if text.startswith("Page ")] for page in pages_of(out)] == [[f"Page {n} of 3"] for n in (1, 2, 3)]


def test_render_pdf_front_of_a_font_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    front = Front(template='#set text(font: "No Such Font")\nx')

    with pytest.raises(FontError):
        written(plain_report(), sales(5), tmp_path / "report.pdf", style=Style(front=front))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["html", "csv", "png"])
def test_render_front_of_what_is_no_pdf_is_a_usage_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=f"a front comes before the pages of a PDF; {kind} has no place for it"):
        written(plain_report(), sales(5), tmp_path / f"report.{kind}", style=Style(front=FRONT))


def test_render_pdf_twice_gives_the_same_bytes(fronted: Read, tmp_path: Path) -> None:
    written(shown_report(), sales(100), tmp_path / "again.pdf", style=Style(section_items=60, front=FRONT))

    assert (tmp_path / "again.pdf").read_bytes() == fronted.path.read_bytes()
