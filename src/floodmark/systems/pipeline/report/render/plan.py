"""A report, read for rendering: every cell of every band as a formula to evaluate and a function that prints its value.

Made once per run. Not here: rows (`layout.py`), aggregates (`fold.py`), widths (`geometry.py`). What was declared has been checked by
`report/check.py`. A label of a page header or footer may hold `{page}` and `{pages}`; a report that declares no page footer gets
"Page {page} of {pages}".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from floodmark.systems.pipeline.report.bands import PAGE_KINDS, Aggregate, Align, Band, BandKind, Expression, Field, Label, Line, Scope
from floodmark.systems.pipeline.report.check import GroupKey, format_of, formula_of, group_keys, scope_of, variable_formula
from floodmark.systems.pipeline.report.expression import Call, Formula
from floodmark.systems.pipeline.report.formats import Formatter, formatter
from floodmark.systems.pipeline.report.kinds import NUMERIC
from floodmark.systems.pipeline.report.model import Report, Reset, Variable, VariableType

# Which rows an aggregate is taken over: one of these, or the level of a group.
REPORT = 0
PAGE = -1
ROW = -2

DEFAULT_FOOTER = Band(kind="page_footer", elements=(Label(text="Page {page} of {pages}", align="right"),))


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One printed element of a band."""

    element: Label | Field | Expression | Aggregate
    formula: Formula | None = None  # None of a label
    scope: int = REPORT  # of its aggregates
    write: Formatter = str
    align: str = "left"

    @property
    def column(self) -> str | None:
        """What it would stand under: the field it prints, or that its one aggregate is taken of."""
        if self.formula is None:
            return None
        if isinstance(self.element, Aggregate):
            return self.formula.calls[0].argument
        return None if self.formula.calls else self.formula.direct

    @property
    def heading(self) -> str:
        """The words above its column."""
        return self.element.text if isinstance(self.element, Label) else self.element.heading

    @property
    def caption(self) -> str:
        """What is said before its value where there is no heading: the label that its author gave it."""
        return self.element.label if isinstance(self.element, (Aggregate, Expression)) else ""


class PlannedBand(msgspec.Struct, frozen=True, kw_only=True):
    """A band and its cells, rules left out."""

    band: Band
    kind: BandKind
    level: int  # of a group header or footer; 0 of others
    cells: tuple[Cell, ...]


class PlannedVariable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable, and the scope that its aggregate is taken over; a custom one has none."""

    variable: Variable
    formula: Formula
    scope: int

    @property
    def is_custom(self) -> bool:
        """Whether it is computed from the row and other variables whenever it is printed."""
        return self.variable.type is VariableType.CUSTOM


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All there is to print. Bands are numbered in this order."""

    report: Report
    bands: tuple[PlannedBand, ...]
    groups: tuple[GroupKey, ...]  # outermost first
    variables: tuple[PlannedVariable, ...]
    constants: Mapping[str, Any]  # the parameters, by their name with a colon

    def of(self, kind: BandKind | str, level: int | None = None) -> list[int]:
        """The numbers of the bands of a kind (and level)."""
        return [number for number, it in enumerate(self.bands) if it.kind == kind and (level is None or it.level == level)]

    def calls(self, *kinds: BandKind) -> dict[int, tuple[Call, ...]]:
        """Every aggregate that bands of these kinds print (or all do), by scope, each once; those of variables included."""
        found: dict[int, dict[str, Call]] = {}
        for it in self.bands:
            if not kinds or it.kind in kinds:
                for cell in it.cells:
                    for call in () if cell.formula is None else cell.formula.calls:
                        found.setdefault(cell.scope, {})[call.text] = call
        for variable in self.variables:
            for call in variable.formula.calls:
                found.setdefault(variable.scope, {})[call.text] = call
        return {scope: tuple(calls.values()) for scope, calls in found.items()}


def plan_of(report: Report, parameters: Mapping[str, Any] | None = None) -> Plan:
    """Read a report.

    Args:
        parameters: the values it is run with, by name, as `parameters.bind` gave them.
    """
    bands = [band for band in report.bands if band.visible]
    if not any(band.kind == BandKind.PAGE_FOOTER for band in report.bands):
        bands.append(DEFAULT_FOOTER)
    variables = [
        PlannedVariable(variable=variable, formula=variable_formula(report, variable), scope=_reset_scope(variable))
        for variable in report.variables
    ]
    given = parameters or {}
    return Plan(
        report=report,
        bands=tuple(_planned(report, band) for band in bands),
        groups=group_keys(report),
        variables=tuple(variables),
        constants={f":{parameter.name}": given.get(parameter.name) for parameter in report.parameters},
    )


def _reset_scope(variable: Variable) -> int:
    if variable.reset_on is Reset.GROUP:
        return variable.reset_group or 1
    return {Reset.DETAIL: ROW, Reset.PAGE: PAGE, Reset.REPORT: REPORT}[Reset(variable.reset_on)]


def _planned(report: Report, band: Band) -> PlannedBand:
    cells = tuple(_cell(report, band, element) for element in band.elements if not isinstance(element, Line))
    return PlannedBand(band=band, kind=BandKind(band.kind), level=band.group_level or 0, cells=cells)


def _cell(report: Report, band: Band, element: Label | Field | Expression | Aggregate) -> Cell:
    if isinstance(element, Label):
        return Cell(element=element, align=_align(element.align, numeric=False))
    made = formula_of(report, element)
    return Cell(
        element=element,
        formula=made,
        scope=_scope(band, element) if made.calls and not isinstance(element, Field) else REPORT,
        write=formatter(format_of(report, element), made.kind),
        align=_align(element.align, numeric=made.kind in NUMERIC),
    )


def _align(align: Align | str, *, numeric: bool) -> str:
    if align == Align.AUTO:
        return "right" if numeric else "left"
    return str(align)


def _scope(band: Band, element: Expression | Aggregate) -> int:
    scope, level = scope_of(band, element)
    if scope is Scope.GROUP:
        return level or 1
    return PAGE if scope is Scope.PAGE else REPORT


def is_around(kind: BandKind) -> bool:
    """Whether bands of this kind stand around a page and not in it."""
    return kind in PAGE_KINDS
