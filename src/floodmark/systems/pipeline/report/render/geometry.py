"""Where on the line each cell stands, decided once from a sample of what is printed, so that all pages have the same columns.

A detail band's elements are the columns of a table. A footer's, a header's or a summary's cell stands under the column of the field that it
prints or sums up, wherever that keeps the order of its cells; what comes before spans the columns up to there. A band that shares no column
with the table is a line of its own, its cells one after the other. A Line among the elements is a rule across, or a bar beside a cell.

Widths are estimated from the letters (`printable.width_em`), with room for larger numbers to come: numbers never wrap, texts do. When the
columns do not fit, the letters become smaller (down to 8 pt), then the page is turned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from floodmark.systems.pipeline.report.bands import BandKind, Direction, Line
from floodmark.systems.pipeline.report.render.plan import Cell, Plan, PlannedBand
from floodmark.systems.pipeline.report.render.printable import width_em

PORTRAIT_PT, LANDSCAPE_PT = 481.9, 728.5  # A4 within margins of 2 cm
SMALLEST_PT = 8.0
SAMPLED_COUNT = 500  # rows looked at
TEXT_CAP_EM = 22.0  # a column of long texts asks for no more than this
INSET_PT = 9.0  # left and right of a cell together
ROOM_RATIO = 0.35  # numbers are given this much more than they need, where there is room
UNBROKEN = 1_000_000  # letters
GROWTH_EM = 1.6  # totals are longer than what they are taken of

_SIZES = {BandKind.TITLE: 1.8, BandKind.PAGE_HEADER: 0.82, BandKind.PAGE_FOOTER: 0.82}
_GROUP_SIZES = (1.25, 1.1, 1.0)  # headers of the outermost level and of those inside it


class StripCell(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of a strip."""

    align: str
    bold: bool = False
    span: int = 1
    bar: float = 0.0  # thickness of the rule at its left, in pt
    caption: str = ""  # said before its value
    blank: bool = False  # it only fills columns: no text belongs to it


class Strip(msgspec.Struct, frozen=True, kw_only=True):
    """One line of cells, or a rule across the page."""

    columns: tuple[tuple[str, float], ...] = ()  # ("fr", share), ("pt", width) or ("auto", 0)
    cells: tuple[StripCell, ...] = ()
    rule: float = 0.0  # thickness in pt; then there are no cells


class BandShape(msgspec.Struct, frozen=True, kw_only=True):
    """How a band looks."""

    kind: str
    level: int
    size: float  # of its letters, in pt
    keep: bool
    strips: tuple[Strip, ...]
    headings: tuple[str, ...] = ()  # over the columns of a detail band
    letters: tuple[int, ...] = ()  # of a detail band: how long a word may be in each column without being broken
    widths: tuple[float, ...] = ()  # of the columns of a detail band that is one plain line, in pt


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """How all bands look, by number."""

    bands: tuple[BandShape, ...]
    flipped: bool
    width_pt: float
    headings: tuple[int, ...]  # the detail bands whose headings stand on every page


def geometry_of(plan: Plan, sample: Mapping[int, Sequence[Sequence[str]]], *, size_pt: float) -> Geometry:
    """Decide how bands look.

    Args:
        sample: printed texts by band, as many rows as there are at hand; the first SAMPLED_COUNT count.
        size_pt: of the letters, where there is room for them.
    """
    tables = plan.of(BandKind.DETAIL)
    natural = {number: _natural(plan.bands[number], sample.get(number, ())) for number in tables}
    flipped, table_pt = _fit([sum(widths) + _insets_em(len(widths), size_pt) for widths in natural.values()], size_pt)
    width_pt = LANDSCAPE_PT if flipped else PORTRAIT_PT
    columns = {number: _columns(plan.bands[number], natural[number], table_pt, width_pt) for number in tables}
    main = next((number for number in tables if len(plan.bands[number].cells) > 1), None)
    levels = sorted({group.level for group in plan.groups})
    shapes = []
    for number, it in enumerate(plan.bands):
        size = table_pt if it.kind is BandKind.DETAIL else _size(it, levels, size_pt, table_pt)
        if number in columns:
            strips = _strips(it, columns[number])
        else:
            anchored = None if main is None or it.kind in (BandKind.TITLE, BandKind.GROUP_HEADER) else _anchored(it, plan.bands[main])
            if it.kind in (BandKind.PAGE_HEADER, BandKind.PAGE_FOOTER):
                anchored = None
            strips = _strips(it, None) if anchored is None or main is None else _under(it, plan.bands[main], columns[main], anchored)
        shapes.append(
            BandShape(
                kind=str(it.kind),
                level=it.level,
                size=size,
                keep=it.band.keep_together or it.kind is not BandKind.DETAIL,
                strips=strips,
                headings=tuple(cell.heading for cell in it.cells) if number in columns else (),
                letters=_letters(it, columns[number], table_pt, width_pt) if number in columns else (),
                widths=_plain_widths(strips, width_pt) if number in columns else (),
            )
        )
    headings = tuple(number for number in tables if plan.bands[number].band.headings and plan.bands[number].cells)
    return Geometry(bands=tuple(shapes), flipped=flipped, width_pt=width_pt, headings=headings)


def _size(it: PlannedBand, levels: Sequence[int], size_pt: float, table_pt: float) -> float:
    if it.kind is BandKind.GROUP_HEADER:
        return size_pt * _GROUP_SIZES[min(levels.index(it.level), len(_GROUP_SIZES) - 1)]
    if it.kind in (BandKind.GROUP_FOOTER, BandKind.SUMMARY):
        return table_pt
    return size_pt * _SIZES.get(it.kind, 1.0)


def _natural(it: PlannedBand, rows: Sequence[Sequence[str]]) -> list[float]:
    """How wide the columns of a table would be without any limit, in em."""
    widths = []
    for index, cell in enumerate(it.cells):
        heading = width_em(cell.heading)
        texts = sorted(width_em(row[index]) for row in rows[:SAMPLED_COUNT])
        if cell.align == "right":
            widths.append(max(heading, (texts[-1] if texts else 3.0) + GROWTH_EM))
        else:
            most = min(texts[-1] if texts else 3.0, TEXT_CAP_EM)
            usual = texts[len(texts) * 9 // 10] if texts else 3.0
            widths.append(max(min(heading, TEXT_CAP_EM), min(most, max(usual * 1.15, 8.0)) + 0.3))
    return widths


def _insets_em(count: int, size_pt: float) -> float:
    return count * INSET_PT / size_pt


def _fit(widths_em: Sequence[float], size_pt: float) -> tuple[bool, float]:
    """Whether the page is turned, and how large a table's letters are."""
    widest = max(widths_em, default=0.0)
    for flipped, width_pt in ((False, PORTRAIT_PT), (True, LANDSCAPE_PT)):
        if widest * size_pt <= width_pt:
            return flipped, size_pt
        fitting = width_pt / widest
        if fitting >= min(SMALLEST_PT, size_pt):
            return flipped, round(fitting, 1)
    return True, min(SMALLEST_PT, size_pt)


def _columns(it: PlannedBand, natural: Sequence[float], size_pt: float, width_pt: float) -> tuple[tuple[str, float], ...]:
    """Give each column its width: as declared, or numbers what they need and texts a share of the rest."""
    shares = [cell.element.width for cell in it.cells]
    if any(share is not None for share in shares):
        declared = sum(share for share in shares if share is not None)
        scale = sum(width for width, share in zip(natural, shares, strict=True) if share is not None) / declared
        return tuple(("fr", round(width if share is None else share * scale, 3)) for width, share in zip(natural, shares, strict=True))
    fixed = [cell.align == "right" for cell in it.cells]
    needed = [width * size_pt + INSET_PT for width in natural]
    taken = sum(width for width, is_fixed in zip(needed, fixed, strict=True) if is_fixed)
    if all(fixed) or taken > 0.75 * width_pt:
        return tuple(("fr", round(width, 3)) for width in needed)
    # Half of the room that is left goes to the numbers, up to a third of their width: those to come may be longer than the first ones.
    spare = max(width_pt - sum(needed), 0.0)
    growth = 1.0 if not taken else 1.0 + min(ROOM_RATIO, spare / 2 / taken)
    return tuple(
        ("pt", round(width * growth, 1)) if is_fixed else ("fr", round(share, 3))
        for width, share, is_fixed in zip(needed, natural, fixed, strict=True)
    )


def _letters(it: PlannedBand, columns: Sequence[tuple[str, float]], size_pt: float, width_pt: float) -> tuple[int, ...]:
    """How many letters of a word each column is sure to hold; a number is not broken in any case."""
    widths = widths_pt(columns, width_pt)
    return tuple(
        UNBROKEN if cell.align == "right" else max(int((width - INSET_PT) / (size_pt * 0.62)), 4)
        for cell, width in zip(it.cells, widths, strict=True)
    )


def widths_pt(columns: Sequence[tuple[str, float]], width_pt: float) -> list[float]:
    """How wide the columns of a table are on a page."""
    left = width_pt - sum(width for unit, width in columns if unit == "pt")
    shares = sum(width for unit, width in columns if unit == "fr") or 1.0
    return [width if unit == "pt" else left * width / shares for unit, width in columns]


def _plain_widths(strips: Sequence[Strip], width_pt: float) -> tuple[float, ...]:
    if len(strips) != 1 or strips[0].rule or any(cell.bar for cell in strips[0].cells):
        return ()
    return tuple(round(width, 2) for width in widths_pt(strips[0].columns, width_pt))


def _strips(it: PlannedBand, columns: tuple[tuple[str, float], ...] | None) -> tuple[Strip, ...]:
    """Lay the cells of a band out from left to right, a new line behind each rule. `columns` are those of a table."""
    strips: list[Strip] = []
    line: list[StripCell] = []
    widths: list[tuple[str, float]] = []
    bar, index = 0.0, 0

    def end_line() -> None:
        if line:
            strips.append(Strip(columns=tuple(widths if columns is not None else _own(widths)), cells=tuple(line)))
            line.clear()
            widths.clear()

    for element in it.band.elements:
        if isinstance(element, Line):
            if element.direction == Direction.VERTICAL:
                bar = element.thickness_pt
            else:
                end_line()
                strips.append(Strip(rule=element.thickness_pt))
            continue
        cell = it.cells[index]
        caption = cell.caption if columns is None else ""
        line.append(StripCell(align=cell.align, bold=cell.element.bold, bar=bar, caption=caption))
        if columns is not None:
            widths.append(columns[index])
        else:
            widths.append(("auto", 0.0) if cell.element.width is None else ("fr", cell.element.width))
        bar, index = 0.0, index + 1
    end_line()
    return tuple(strips)


def _own(widths: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Columns of a line of its own: as wide as their text, the last one takes what is left."""
    if all(unit == "auto" for unit, _ in widths):
        return [*widths[:-1], ("fr", 1.0)]
    return widths


def _anchored(it: PlannedBand, table: PlannedBand) -> list[int] | None:
    """The first column of each cell under a table's columns; None when they share none, or the order does not allow it."""
    if any(isinstance(element, Line) for element in it.band.elements) or not it.cells:
        return None
    if any(cell.element.width is not None for cell in it.cells):
        return None
    places = _places(table)
    wanted = [_place(cell, places) for cell in it.cells]
    if all(place is None for place in wanted):
        return None
    starts: list[int] = []
    count = len(table.cells)
    for index, place in enumerate(wanted):
        least = starts[-1] + 1 if starts else 0
        ahead = next((p - o for o, p in enumerate(wanted[index:]) if p is not None), None)  # where the next anchored cell leaves room to
        start = least if place is None else place
        if start < least or start >= count or (ahead is not None and least > ahead):
            return None
        starts.append(start)
    return [0, *starts[1:]] if wanted[0] is None else starts


def _places(table: PlannedBand) -> dict[str, int]:
    places: dict[str, int] = {}
    for index, cell in enumerate(table.cells):
        if cell.column is not None:
            places.setdefault(cell.column, index)
    return places


def _place(cell: Cell, places: Mapping[str, int]) -> int | None:
    return None if cell.column is None else places.get(cell.column)


def _under(it: PlannedBand, table: PlannedBand, columns: tuple[tuple[str, float], ...], starts: list[int]) -> tuple[Strip, ...]:
    """One line under a table's columns: each text spans up to the next cell; a number keeps to its column."""
    places = _places(table)
    cells = []
    if starts[0] > 0:
        cells.append(StripCell(align="left", span=starts[0], blank=True))
    for index, (cell, start) in enumerate(zip(it.cells, starts, strict=True)):
        end = starts[index + 1] if index + 1 < len(starts) else len(columns)
        span = 1 if cell.column is not None and cell.align == "right" and end - start > 1 else end - start
        caption = "" if _place(cell, places) is not None else cell.caption
        cells.append(StripCell(align=cell.align, bold=cell.element.bold, span=span, caption=caption))
        if span < end - start:
            cells.append(StripCell(align="left", span=end - start - span, blank=True))
    return (Strip(columns=columns, cells=tuple(cells)),)
