"""The aggregates of a run, by scope, as they stand at one moment between two rows.

A `Fold` is moved forward over stretches of rows in which no group begins, and told when one does. What a band prints is read off it at
that moment: of an ended scope its whole, of an open one what has been seen so far. Layout and pages have a fold each.
Memory: a few numbers for each aggregate and scope.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from floodmark.systems.pipeline.report.bands import BandKind
from floodmark.systems.pipeline.report.expression import Call, Formula
from floodmark.systems.pipeline.report.model import VariableType
from floodmark.systems.pipeline.report.render.plan import ROW, Cell, Plan, PlannedVariable
from floodmark.systems.pipeline.report.render.printable import printable
from floodmark.systems.pipeline.report.tally import Tally, partials

Begins = Mapping[int, int]  # the rows of a chunk at which groups begin, and the outermost level that does


class Fold:
    """The aggregates that bands of some kinds print, and the variables."""

    def __init__(self, plan: Plan, *kinds: BandKind) -> None:
        self.plan = plan
        calls = plan.calls(*kinds)
        self._tallies = {scope: Tally(of_scope) for scope, of_scope in calls.items()}
        self._calls = tuple({call.text: call for of_scope in calls.values() for call in of_scope}.values())
        self._columns = [column for call in self._calls for column in partials(call)]

    def begin(self, scope: int) -> None:
        """Begin a scope anew and, of a group, those inside it."""
        for known, tally in self._tallies.items():
            if known == scope or (scope > 0 and known > scope):
                tally.reset()

    def edges(self, count: int, begins: Begins) -> list[int]:
        """Where the stretches of a chunk of rows are cut: where groups begin and, for what begins anew with each row, everywhere."""
        return list(range(count + 1)) if ROW in self._tallies else sorted({0, count, *begins})

    def stretches(self, rows: pl.DataFrame, edges: Sequence[int]) -> Iterator[Mapping[str, Any]]:
        """The aggregates' parts of each stretch of rows between two edges, all computed in one go."""
        if not self._columns:
            return itertools.repeat({}, len(edges) - 1)
        if len(edges) == 2:
            return iter(rows.select(self._columns).rows(named=True))
        stretch = pl.Series("#stretch", [number for number, (a, b) in enumerate(itertools.pairwise(edges)) for _ in range(b - a)])
        return iter(rows.with_columns(stretch).group_by("#stretch", maintain_order=True).agg(self._columns).rows(named=True))

    def add(self, parts: Mapping[str, Any]) -> None:
        """Move over a stretch, given its parts."""
        if parts:
            if ROW in self._tallies:
                self._tallies[ROW].reset()
            for tally in self._tallies.values():
                tally.add_parts(parts)

    def advance(self, rows: pl.DataFrame, begins: Begins) -> None:
        """Move over rows in which groups may begin."""
        edges = self.edges(len(rows), begins)
        for start, parts in zip(edges, self.stretches(rows, edges), strict=False):
            if start in begins:
                self.begin(begins[start])
            self.add(parts)

    def each(self, rows: pl.DataFrame, begins: Begins) -> list[dict[int, dict[str, Any]]]:
        """Move over rows one by one; return the values, by scope, after each of them."""
        after = []
        for row, parts in zip(range(len(rows)), self.stretches(rows, range(len(rows) + 1)), strict=False):
            if row in begins:
                self.begin(begins[row])
            self.add(parts)
            after.append({scope: tally.values() for scope, tally in self._tallies.items()})
        return after

    def values(self, row: Mapping[str, Any]) -> Values:
        """What can be printed now, over a row (or none: `{}`)."""
        return Values(self.plan, {scope: tally.values() for scope, tally in self._tallies.items()}, row)


class Values:
    """A moment: a row, the variables, the aggregates of each scope."""

    def __init__(self, plan: Plan, by_scope: Mapping[int, Mapping[str, Any]], row: Mapping[str, Any]) -> None:
        self._by_scope = by_scope
        self._names: dict[str, Any] = {**plan.constants, **row}
        for variable in plan.variables:
            self._names[variable.variable.name] = self._variable(variable)

    def text(self, cell: Cell) -> str:
        """Print a cell. A label is its own text."""
        if cell.formula is None:
            return printable(cell.heading)
        return printable(cell.write(evaluated(cell.formula, self._names, self._by_scope.get(cell.scope, {}))))

    def variable(self, name: str) -> Any:
        """The value of a variable."""
        return self._names[name]

    def _variable(self, planned: PlannedVariable) -> Any:
        if planned.is_custom:
            return evaluated(planned.formula, self._names, {})
        known = self._by_scope.get(planned.scope, {}).get(planned.formula.calls[0].text)
        return with_initial(planned, known)


def with_initial(planned: PlannedVariable, known: Any) -> Any:
    """Return a variable's value, given what has been folded of the rows: its initial value goes first."""
    initial, kind = planned.variable.initial, planned.variable.type
    if initial is None:
        return 0 if known is None and kind is VariableType.SUM else known
    if known is None:
        return initial
    if kind in (VariableType.SUM, VariableType.COUNT):
        return initial + known
    if kind in (VariableType.MIN, VariableType.MAX):
        return min(initial, known) if kind is VariableType.MIN else max(initial, known)
    return known


def evaluated(made: Formula, names: Mapping[str, Any], aggregates: Mapping[str, Any]) -> Any:
    """Evaluate a formula over one row and finished aggregates; a name without a value counts as missing."""
    calls: dict[str, Call] = {call.text: call for call in made.calls}
    if made.direct is not None:
        return aggregates.get(made.direct) if made.direct in calls else names.get(made.direct)
    columns = [
        pl.Series(name, [aggregates.get(name)], dtype=calls[name].dtype, strict=False)
        if name in calls
        else pl.Series(name, [names.get(name)], strict=False)
        for name in made.inputs
    ]
    return made.evaluate(pl.DataFrame(columns or {"": [None]}))[0]
