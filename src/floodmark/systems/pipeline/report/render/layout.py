"""Rows in, bands out: where groups begin and end, what their headers and footers say, every cell as text.

A `Layout` is fed chunks in order and gives the `Item`s that they complete, top to bottom. It remembers the open groups (their keys and
aggregates) and the last row, so its memory does not grow with the rows. Rows with a value that cannot be read are left out and counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from floodmark.systems.pipeline.report.bands import PAGE_KINDS, BandKind
from floodmark.systems.pipeline.report.formats import format_all
from floodmark.systems.pipeline.report.render.fold import Begins, Fold, Values, with_initial
from floodmark.systems.pipeline.report.render.plan import ROW, Plan
from floodmark.systems.pipeline.report.render.printable import printable
from floodmark.systems.pipeline.report.shape import Shape
from floodmark.systems.pipeline.report.tally import result_frame

BEGINS = "#begins"  # a column that is added to the rows: the outermost level that begins with a row, or null


class Item:
    """One band, printed once: for one row, one group, or the report."""

    __slots__ = ("band", "rows_before", "texts")

    def __init__(self, band: int, texts: Sequence[str], rows_before: int) -> None:
        self.band = band  # its number in the plan
        self.texts = texts
        self.rows_before = rows_before  # rows of the report that stand above it


class Layout:
    """One run through the rows of a report."""

    def __init__(self, plan: Plan, parameters: Mapping[str, Any] | None = None) -> None:
        self.plan = plan
        self.rows_count = 0  # printed
        self.rows = pl.DataFrame()  # those of the last chunk, with all that bands may read, and BEGINS
        self._shape = Shape(plan.report, parameters or {})
        self._levels = [group.level for group in plan.groups]
        self._fold = Fold(plan, *(kind for kind in BandKind if kind not in PAGE_KINDS))
        self._details = plan.of(BandKind.DETAIL)
        cells = [cell for number in self._details for cell in plan.bands[number].cells if cell.formula is not None]
        names = {planned.variable.name for planned in plan.variables}
        running = any(cell.formula is not None and (cell.formula.calls or names.intersection(cell.formula.inputs)) for cell in cells)
        self._running = Fold(plan, BandKind.DETAIL) if running else None  # moves row by row, which costs: only where it is printed
        self._keys: tuple[Any, ...] | None = None
        self._last: Mapping[str, Any] = {}
        self._titled = False

    @property
    def skipped_count(self) -> int:
        """Rows that were left out."""
        return self._shape.skipped_count

    @property
    def skipped_reason(self) -> str:
        """Why, of the first of them."""
        return self._shape.skipped_reason

    def feed(self, frame: pl.DataFrame) -> list[Item]:
        """Lay out a chunk of rows, as the source gave them."""
        rows = self._shape.rows(frame)
        items = self._title()
        if not len(rows):
            self.rows = rows
            return items
        begins = self._begins(rows)
        self.rows = rows.with_columns(pl.Series(BEGINS, [begins.get(row) for row in range(len(rows))], dtype=pl.Int32))
        texts = [(number, self._detail_texts(number, rows, begins)) for number in self._details]
        edges = self._fold.edges(len(rows), begins)
        for (start, end), parts in zip(itertools.pairwise(edges), self._fold.stretches(rows, edges), strict=False):
            before = self.rows_count + start
            if start in begins:
                self._turn(begins[start], rows.row(start, named=True), items, before)
            self._fold.add(parts)
            items += [Item(number, cells[row], self.rows_count + row) for row in range(start, end) for number, cells in texts]
            self._last = rows.row(end - 1, named=True)
        self.rows_count += len(rows)
        return items

    def finish(self) -> list[Item]:
        """Close every group and print the summary."""
        items = self._title()
        if self.rows_count:
            self._close(self._levels, items, self.rows_count)
        moment = self._fold.values({})
        items += [self._item(number, moment, self.rows_count) for number in self.plan.of(BandKind.SUMMARY)]
        return items

    def _title(self) -> list[Item]:
        if self._titled:
            return []
        self._titled = True
        moment = self._fold.values({})
        return [self._item(number, moment, 0) for number in self.plan.of(BandKind.TITLE)]

    def _begins(self, rows: pl.DataFrame) -> dict[int, int]:
        """Where groups begin: the row, and the outermost level that does."""
        if not self.plan.groups:
            return {}
        keys = [rows[group.name if group.name in rows.columns else group.column] for group in self.plan.groups]
        begins: dict[int, int] = {}
        for index, key in reversed(list(enumerate(keys))):
            changed = key.ne_missing(key.shift(1)).arg_true().to_list()
            first = self._keys is None or not _same(self._keys[index], key[0])
            begins |= dict.fromkeys([0] * first + [row for row in changed if row], self._levels[index])
        self._keys = tuple(key[-1] for key in keys)
        return begins

    def _detail_texts(self, number: int, rows: pl.DataFrame, begins: Begins) -> list[tuple[str, ...]]:
        """The cells of a detail band, a tuple of texts for each row."""
        cells = self.plan.bands[number].cells
        frames = self._with_running(rows, begins)
        columns = []
        for cell in cells:
            if cell.formula is None:
                columns.append([printable(cell.heading)] * len(rows))
            else:
                values = cell.formula.evaluate(frames.get(cell.scope, rows) if cell.formula.calls else frames[ROW])
                columns.append(list(map(printable, format_all(values, cell.write))))
        return list(zip(*columns, strict=True)) if columns else [()] * len(rows)

    def _with_running(self, rows: pl.DataFrame, begins: Begins) -> dict[int, pl.DataFrame]:
        """The rows with what has been seen so far as columns: the variables, and the aggregates of each scope (ROW: none)."""
        if self._running is None:
            return {ROW: rows}
        after = self._running.each(rows, begins)
        for planned in self.plan.variables:
            if planned.is_custom:
                series = planned.formula.evaluate(rows)
            else:
                call = planned.formula.calls[0]
                folded = [values.get(planned.scope, {}).get(call.text) for values in after]
                series = pl.Series([with_initial(planned, value) for value in folded], dtype=call.dtype, strict=False)
            rows = rows.with_columns(series.alias(planned.variable.name))
        frames = {ROW: rows}
        for scope, calls in self.plan.calls(BandKind.DETAIL).items():
            frames[scope] = rows.hstack(result_frame(calls, [values[scope] for values in after]))
        return frames

    def _turn(self, level: int, first: Mapping[str, Any], items: list[Item], before: int) -> None:
        """End the groups of a level and those inside it, and begin the next ones."""
        levels = [known for known in self._levels if known >= level]
        if before:
            self._close(levels, items, before)
        self._fold.begin(level)
        moment = self._fold.values(first)
        items += [self._item(number, moment, before) for known in levels for number in self.plan.of(BandKind.GROUP_HEADER, known)]

    def _close(self, levels: Sequence[int], items: list[Item], before: int) -> None:
        """Print the footers of groups that have ended, innermost first."""
        moment = self._fold.values(self._last)
        items += [self._item(number, moment, before) for level in reversed(levels) for number in self.plan.of(BandKind.GROUP_FOOTER, level)]

    def _item(self, number: int, moment: Values, before: int) -> Item:
        return Item(number, [moment.text(cell) for cell in self.plan.bands[number].cells], before)


def _same(one: Any, other: Any) -> bool:
    return one is other or one == other or (one != one and other != other)  # NaN is one group
