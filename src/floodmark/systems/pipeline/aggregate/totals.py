"""The running figures of one grouping, or of everything as a single group.

Rows are put aside (`add`) and folded together: one group-by over many small batches costs a tenth of one per batch. Nothing depends on
when that happens, because every figure is exact (exact.py). State is a list per figure with one Python number per group, so folding
costs time per row and per group seen in it, and memory goes with the groups alone; rows put aside are bounded by FOLD_ROWS.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

import polars as pl

from floodmark.systems.pipeline.aggregate.exact import FOLD_ROWS_MAX, Kind, Number, Part, Total, part, ratio
from floodmark.systems.pipeline.aggregate.groups import Groups, key_names, keys_of, same_key

T = TypeVar("T")

FOLD_ROWS = 65_536
FOLD_BYTES = 16 * 1024 * 1024

Figures = dict[str, Any]  # {function: {field: number}}, but "count": int


class Column:
    """What is known of one field's numbers of one kind: a list per figure, one entry per group."""

    __slots__ = ("counts", "greatest", "lanes", "least", "negative", "positive")

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.lanes: dict[int, list[int]] = {}
        self.positive: list[int] = []  # infinities
        self.negative: list[int] = []
        self.least: list[Number | None] = []
        self.greatest: list[Number | None] = []


class Totals:
    """Figures by group. Not thread-safe; pickles when nothing is put aside (`fold` first)."""

    def __init__(self, functions: Sequence[str], key_count: int, groups: Groups) -> None:
        self.functions = tuple(functions)
        self.groups = groups
        self._key_count = key_count
        self._sums = not {"sum", "avg", "running_total"}.isdisjoint(functions)
        self._least, self._greatest = "min" in functions, "max" in functions
        self._rows: list[int] = []  # records per group
        self._columns: dict[tuple[str, Kind], Column] = {}
        self._aside: list[pl.DataFrame] = []
        self._aside_rows = 0
        self._aside_bytes = 0
        self._aside_fields: dict[str, str] = {}

    @property
    def aside_bytes(self) -> int:
        """What the rows put aside hold."""
        return self._aside_bytes

    @property
    def needs_values(self) -> bool:
        """Whether numbers are looked at, or records only counted."""
        return self._sums or self._least or self._greatest

    def add(self, projected: pl.DataFrame, fields: dict[str, str], row_count: int, *, unseen_count: int) -> None:
        """Take rows into account, now or at the next fold.

        Args:
            projected: the key columns `key:0`... and the value columns, nothing else.
            fields: by value column, the field whose numbers stand in it.
            row_count: of `projected`, which cannot tell when it has no columns.
            unseen_count: groups that the rows may found, where they were accepted without a look at their keys.
        """
        if not projected.width:
            _add(self._rows, self.groups.learn([()]), [row_count], 1)
            return
        if fields != self._aside_fields or (self._aside and projected.schema != self._aside[0].schema):
            self.fold()
            self._aside_fields = fields
        self._aside.append(projected)
        self.groups.unseen_count += unseen_count
        self._aside_rows += row_count
        self._aside_bytes += int(projected.estimated_size())
        if self._aside_rows >= FOLD_ROWS or self._aside_bytes >= FOLD_BYTES:
            self.fold()

    def fold(self) -> None:
        """Bring the figures up to date with every row added."""
        if not self._aside:
            return
        frame = self._aside[0] if len(self._aside) == 1 else pl.concat(self._aside, rechunk=False)
        self._aside, self._aside_rows, self._aside_bytes = [], 0, 0
        for start in range(0, frame.height, FOLD_ROWS_MAX):
            self._fold(frame.slice(start, FOLD_ROWS_MAX), self._aside_fields)
        self.groups.unseen_count = 0

    def _fold(self, frame: pl.DataFrame, fields: dict[str, str]) -> None:
        parts = {name: part(frame.get_column(name), name) for name in fields} if self.needs_values else {}
        wanted = [pl.len().alias("rows"), *itertools.chain.from_iterable(self._expressions(name, each) for name, each in parts.items())]
        if self._key_count:
            found = frame.group_by(key_names(self._key_count)).agg(wanted)
            at = self.groups.learn(keys_of(found, self._key_count))
        else:
            found = frame.select(wanted)
            at = self.groups.learn([()])
        rows = found.get_column("rows").to_list()
        _add(self._rows, at, rows, len(self.groups))
        for name, each in parts.items():
            column = self._columns.setdefault((fields[name], each.kind), Column())
            self._take(column, each, found, name, at, rows)

    def _expressions(self, name: str, each: Part) -> Iterable[pl.Expr]:
        """What to compute of one column in each group."""
        if not each.dense:
            yield each.values.count().alias(f"count:{name}")
        if self._sums:
            for exponent, lane in each.lanes.items():
                yield lane.alias(f"lane{exponent}:{name}")
            if each.infinite:
                yield (each.values == float("inf")).sum().alias(f"positive:{name}")
                yield (each.values == float("-inf")).sum().alias(f"negative:{name}")
        if self._least:
            yield each.values.min().alias(f"least:{name}")
        if self._greatest:
            yield each.values.max().alias(f"greatest:{name}")

    def _take(self, column: Column, each: Part, found: pl.DataFrame, name: str, at: list[int], rows: list[int]) -> None:
        """Merge the figures of a fold into the state."""

        def result(what: str) -> list[Any]:
            return found.get_column(f"{what}:{name}").to_list()

        size = len(self.groups)
        _add(column.counts, at, rows if each.dense else result("count"), size)
        if self._sums:
            for exponent in each.lanes:
                _add(column.lanes.setdefault(exponent, []), at, result(f"lane{exponent}"), size)
            if each.infinite:
                _add(column.positive, at, result("positive"), size)
                _add(column.negative, at, result("negative"), size)
        if self._least:
            _keep(column.least, at, result("least"), size, greater=False)
        if self._greatest:
            _keep(column.greatest, at, result("greatest"), size, greater=True)

    def merge(self, other: Totals) -> None:
        """Add another's figures to these; both must have been folded. Its groups are taken over whatever the limit says."""
        at = self.groups.learn([same_key(key) for key in other.groups.numbers])
        size = len(self.groups)
        self.groups.rejected_count += other.groups.rejected_count
        _add(self._rows, at, other._rows, size)
        for key, theirs in other._columns.items():
            ours = self._columns.setdefault(key, Column())
            _add(ours.counts, at, theirs.counts, size)
            for exponent, lane in theirs.lanes.items():
                _add(ours.lanes.setdefault(exponent, []), at, lane, size)
            _add(ours.positive, at, theirs.positive, size)
            _add(ours.negative, at, theirs.negative, size)
            _keep(ours.least, at, theirs.least, size, greater=False)
            _keep(ours.greatest, at, theirs.greatest, size, greater=True)

    def figures(self) -> dict[Hashable, Figures]:
        """Give every group's figures; a field of which a group has no number is not among them. Fold first."""
        size = len(self.groups)
        made: list[Figures] = [{function: {} for function in self.functions} for _ in range(size)]
        if "count" in self.functions:
            for group, count in zip(made, _whole(self._rows, size, 0), strict=True):
                group["count"] = count
        for field in dict.fromkeys(field for field, _ in self._columns):
            columns = {kind: column for (name, kind), column in self._columns.items() if name == field}
            counts = [sum(each) for each in zip(*(_whole(column.counts, size, 0) for column in columns.values()), strict=True)]
            for function, values in self._values(columns, counts).items():
                for group, count, value in zip(made, counts, values, strict=True):
                    if count:
                        group[function][field] = value
        return dict(zip(self.groups.numbers, made, strict=True))

    def _values(self, columns: dict[Kind, Column], counts: list[int]) -> dict[str, list[Any]]:
        """One field's figures, a list over the groups for each function; of groups without a number they mean nothing."""
        size = len(counts)
        values: dict[str, list[Any]] = {}
        if not {"sum", "running_total"}.isdisjoint(self.functions):
            sums = _sums(columns, size)
            values |= {function: sums for function in ("sum", "running_total") if function in self.functions}
        if "avg" in self.functions:
            values["avg"] = _averages(columns, [count or 1 for count in counts])
        for function, wanted in (("min", self._least), ("max", self._greatest)):
            if wanted:
                extremes = [column.least if function == "min" else column.greatest for column in columns.values()]
                values[function] = list(_whole(extremes[0], size, None))
                for further in extremes[1:]:
                    _keep(values[function], range(size), further, size, greater=function == "max")
        return values


def _single_lane(columns: dict[Kind, Column]) -> tuple[list[int], int] | None:
    """The one lane of a field and its unit as a divisor, where there is but one kind of number: nearly always. Not for decimals."""
    (kind, column), *further = columns.items()
    if further or kind == "decimal" or len(column.lanes) != 1 or column.positive:
        return None
    ((exponent, lane),) = column.lanes.items()
    return (lane, 2**-exponent) if (kind == "float" and exponent < 0) or exponent == 0 else None


def _sums(columns: dict[Kind, Column], size: int) -> list[Number]:
    """One field's sums."""
    single = _single_lane(columns)
    if single is None:
        return [_total(columns, number).value() for number in range(size)]
    lane, unit = single
    whole = _whole(lane, size, 0)
    return [ratio(value, unit) for value in whole] if "float" in columns else list(whole)


def _averages(columns: dict[Kind, Column], counts: list[int]) -> list[Number]:
    """One field's sums divided by its counts, each rounded once."""
    single = _single_lane(columns)
    if single is None:
        return [_total(columns, number).value(count) for number, count in enumerate(counts)]
    lane, unit = single
    return [ratio(value, unit * count) for value, count in zip(_whole(lane, len(counts), 0), counts, strict=True)]


def _total(columns: dict[Kind, Column], number: int) -> Total:
    """Put together what one group has of one field."""
    total = Total(kinds=frozenset(kind for kind, column in columns.items() if _at(column.counts, number, 0)))
    for kind, column in columns.items():
        parts = {exponent: _at(lane, number, 0) for exponent, lane in column.lanes.items()}
        if kind == "float":
            total.floats = parts
            total.positive_count, total.negative_count = _at(column.positive, number, 0), _at(column.negative, number, 0)
        elif kind == "decimal":
            total.decimals = parts
        else:
            total.integers = sum(value << exponent for exponent, value in parts.items())
    return total


def _whole(totals: list[T], size: int, missing: T) -> list[T]:
    """Give a list with an entry for each group."""
    return totals if len(totals) == size else [*totals, *itertools.repeat(missing, size - len(totals))]


def _add(totals: list[int], at: Sequence[int], values: Sequence[int], size: int) -> None:
    """Add values to the totals of their groups."""
    if len(totals) < size:
        totals.extend(itertools.repeat(0, size - len(totals)))
    for number, value in zip(at, values):  # noqa: B905  # HOT: once per group and figure of a fold; what was never counted is shorter
        totals[number] += value


def _keep(totals: list[Number | None], at: Sequence[int], values: Sequence[Number | None], size: int, *, greater: bool) -> None:
    """Keep the least or the greatest of what is there and what is new."""
    if len(totals) < size:
        totals.extend(itertools.repeat(None, size - len(totals)))
    for number, value in zip(at, values):  # noqa: B905  # see above
        if value is None:
            continue
        known = totals[number]
        if known is None or (value > known if greater else value < known):
            totals[number] = value


def _at(totals: list[T], number: int, missing: T) -> T:
    """Read a total; a list ends where its last group stands."""
    return totals[number] if number < len(totals) else missing
