"""Geometry: columns that fit the page, numbers that keep their place, totals under what they sum up."""

from __future__ import annotations

from typing import Any

import pytest

from floodmark.systems.pipeline.report import Aggregate, Band, Field, Label, Line, Report
from floodmark.systems.pipeline.report.render.geometry import LANDSCAPE_PT, PORTRAIT_PT, SMALLEST_PT, Geometry, geometry_of, widths_pt
from floodmark.systems.pipeline.report.render.plan import plan_of
from floodmark.systems.pipeline.report.render.printable import breakable, printable, width_em
from tests.systems.pipeline.report.render.shown import plain_report

DETAIL = Band(kind="detail", elements=(Field(source="product"), Field(source="quantity"), Field(source="amount")))


def decided(report: Report, rows: list[tuple[str, ...]]) -> Geometry:
    plan = plan_of(report)
    return geometry_of(plan, {plan.of("detail")[0]: rows}, size_pt=11.0)


def with_summary(*elements: Any) -> Geometry:
    return decided(plain_report(bands=(DETAIL, Band(kind="summary", elements=elements))), [("Rope", "5", "12.50")] * 3)


def spans(geometry: Geometry) -> list[tuple[int, bool]]:
    (strip,) = geometry.bands[1].strips
    return [(cell.span, cell.blank) for cell in strip.cells]


@pytest.mark.parametrize("text", ["Rope", "A text of a middling length that goes on", "x" * 200])
def test_geometry_columns_fill_the_page_exactly(text: str) -> None:
    geometry = decided(plain_report(bands=(DETAIL,)), [(text, "5", "1,234,567.50")])

    shape = geometry.bands[0]
    assert sum(widths_pt(shape.strips[0].columns, geometry.width_pt)) == pytest.approx(geometry.width_pt)
    assert sum(shape.widths) == pytest.approx(geometry.width_pt, abs=0.1)


def test_geometry_numbers_have_room_for_longer_ones() -> None:
    geometry = decided(plain_report(bands=(DETAIL,)), [("Rope", "5", "12.50")])

    width = geometry.bands[0].widths[2]
    assert width > 11 * width_em("99,912.50")


def test_geometry_declared_widths_are_shares() -> None:
    detail = Band(kind="detail", elements=(Field(source="product", width=3), Field(source="quantity", width=1)))

    shape = decided(plain_report(bands=(detail,)), [("Rope", "5")]).bands[0]

    assert shape.widths[0] == pytest.approx(3 * shape.widths[1], rel=0.01)


@pytest.mark.parametrize(("count", "flipped", "smaller"), [(4, False, False), (12, False, True), (16, True, False), (40, True, True)])
def test_geometry_many_columns_smaller_letters_then_a_turned_page(count: int, flipped: bool, smaller: bool) -> None:
    names = [f"field_{number}" for number in range(count)]
    detail = Band(kind="detail", elements=tuple(Field(source=name) for name in names))
    report = plain_report(fields=dict.fromkeys(names, str), bands=(detail,))

    geometry = decided(report, [("a word",) * count])

    assert geometry.flipped is flipped
    assert geometry.width_pt == (LANDSCAPE_PT if flipped else PORTRAIT_PT)
    size = geometry.bands[0].size
    assert SMALLEST_PT <= size <= 11
    assert (size < 11) is smaller


def test_geometry_total_stands_under_its_column() -> None:
    geometry = with_summary(Label(text="Total"), Aggregate(function="sum", source="amount"))

    assert spans(geometry) == [(2, False), (1, False)]
    assert geometry.bands[1].strips[0].columns == geometry.bands[0].strips[0].columns


def test_geometry_total_of_a_middle_column_leaves_the_rest_blank() -> None:
    geometry = with_summary(Aggregate(function="sum", source="quantity"))

    assert spans(geometry) == [(1, True), (1, False), (1, True)]


def test_geometry_totals_in_another_order_are_a_line_of_their_own() -> None:
    pieces = Aggregate(function="sum", source="quantity", label="Pieces")

    geometry = with_summary(Aggregate(function="sum", source="amount", label="Amount"), pieces)

    (strip,) = geometry.bands[1].strips
    assert strip.columns != geometry.bands[0].strips[0].columns
    assert [cell.caption for cell in strip.cells] == ["Amount", "Pieces"]


def test_geometry_line_cuts_a_band_in_two() -> None:
    geometry = with_summary(Label(text="above"), Line(thickness_pt=2), Label(text="below"))

    assert [strip.rule for strip in geometry.bands[1].strips] == [0, 2, 0]


def test_breakable_keeps_every_letter_and_cuts_long_words() -> None:
    text = "short " + "y" * 25

    broken = breakable(text, 10)

    assert broken.replace("\u200b", "") == text
    assert max(map(len, broken.replace("\u200b", " ").split())) == 10


def test_printable_lets_ordinary_text_through() -> None:
    text = "é 漢字 🚢 a\tb\nc"

    assert printable(text) == text


def test_printable_shows_what_no_format_takes() -> None:
    assert printable("a\x00b\ud800c\r\nd\x1b") == "a\ufffdb\ufffdc\nd\ufffd"
