"""Hold a report against itself the moment it is declared, and answer what its parts mean.

Checked: names that are double or unknown, expressions and their types, group levels, scopes, formats that do not suit their values, what a
band may print at the moment it is printed, parameters of the query. The first mistake is a PlacedError that says where it stands.

The same readings serve renderers and the bridge: `formula_of` (what an element prints), `scope_of` (which rows its aggregates are taken
over), `group_keys` (the columns a report is grouped by), `variable_formula`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from floodmark.systems.pipeline.report.bands import (
    FUNCTIONS,
    GROUP_KINDS,
    PAGE_KINDS,
    Aggregate,
    Band,
    BandKind,
    Expression,
    Field,
    Scope,
    Valued,
)
from floodmark.systems.pipeline.report.errors import PlacedError, unknown
from floodmark.systems.pipeline.report.expression import Formula, formula, row_formula
from floodmark.systems.pipeline.report.formats import Format, FormatType, format_named, resolved
from floodmark.systems.pipeline.report.kinds import NUMERIC, Kind
from floodmark.systems.pipeline.report.words import quoted

if TYPE_CHECKING:
    from floodmark.systems.pipeline.report.model import Report, Variable

_NUMBERS = frozenset({FormatType.INTEGER, FormatType.NUMBER, FormatType.PERCENT, FormatType.MONEY})
_DATES = frozenset({Kind.DATE, Kind.DATETIME})


class GroupKey(msgspec.Struct, frozen=True, kw_only=True):
    """What one level is grouped by: a column of the rows as they are, or one that is computed under the group's name."""

    level: int
    name: str
    column: str
    formula: Formula | None  # None: the column is a field
    kind: Kind
    descending: bool


def check(report: Report) -> None:
    """Raise the first mistake of a report as a PlacedError."""
    try:
        _check_names(report)
        _check_query(report)
        group_keys(report)
        for variable in report.variables:
            variable_formula(report, variable)
        for band in report.bands:
            _check_band(report, band)
    except PlacedError as error:
        raise error.within(report.place) from error.__cause__


# What the parts mean


def group_keys(report: Report) -> tuple[GroupKey, ...]:
    """Return what each level is grouped by, outermost first.

    Raises: PlacedError for a group of an unknown field or with a malformed expression.
    """
    kinds, names = report.kinds, _row_names(report)
    keys = []
    for group in report.groups:
        text = quoted(group.text) if group.text in kinds else group.text
        try:
            made = row_formula(text, names)
        except PlacedError as error:
            raise error.within(group.place) from error.__cause__
        plain = made.direct in kinds
        descending = group.sort == "desc"
        column = str(made.direct) if plain else group.name
        computed = None if plain else made
        keys.append(GroupKey(level=group.level, name=group.name, column=column, formula=computed, kind=made.kind, descending=descending))
    return tuple(keys)


def variable_formula(report: Report, variable: Variable) -> Formula:
    """Return what a variable folds: an aggregate over rows or, of a custom one, a computation over fields and earlier variables."""
    names = _row_names(report) | {key.name: key.kind for key in group_keys(report)}
    try:
        if variable.type != "custom":
            return formula(f"{FUNCTIONS[variable.type]}({variable.expression or '*'})", names)
        for earlier in report.variables[: report.variables.index(variable)]:
            names[earlier.name] = variable_formula(report, earlier).kind
        return row_formula(variable.expression, names)
    except PlacedError as error:
        raise error.within(variable.place) from error.__cause__


def formula_of(report: Report, element: Valued) -> Formula:
    """Return what an element prints, over fields, groups, variables (by name), parameters (":name") and its aggregates' results."""
    names = all_names(report)
    if isinstance(element, Field):
        if element.source not in names:
            raise unknown("field", element.source, [name for name in names if not name.startswith(":")])
        return row_formula(quoted(element.source), names)
    return formula(element.text, names)


def format_of(report: Report, element: Valued) -> Format:
    """Return how an element's values are printed, with its type settled.

    Raises: PlacedError for an unknown format, or one for another kind of value.
    """
    kind = formula_of(report, element).kind
    chosen = resolved(format_named(element.format, report.formats), kind)
    wrong = (
        (chosen.type in _NUMBERS and kind not in NUMERIC)
        or (chosen.type in (FormatType.DATE, FormatType.DATETIME) and kind not in _DATES)
        or (chosen.type is FormatType.BOOLEAN and kind is not Kind.BOOLEAN)
    )
    if wrong:
        raise PlacedError(f"the format {chosen.type} does not suit {_article(kind)}", near=str(_suitable(kind)))
    return chosen


def scope_of(band: Band, element: Expression | Aggregate) -> tuple[Scope, int | None]:
    """Return which rows an element's aggregates are taken over: a scope other than BAND, and the level of a group.

    In a detail band, and for a scope wider than the band's own, it is what has been seen so far.
    """
    if element.scope is Scope.GROUP:
        level = element.group_level if element.group_level is not None else band.group_level
        if level is None:
            raise PlacedError("scope group needs a group_level here: the band belongs to no group")
        return Scope.GROUP, level
    if element.group_level is not None:
        raise PlacedError(f"has a group_level, which only scope group has; its scope is {element.scope}")
    if element.scope is not Scope.BAND:
        return Scope(element.scope), None
    if band.kind in GROUP_KINDS:
        return Scope.GROUP, band.group_level
    if band.kind is BandKind.DETAIL:
        raise PlacedError("an aggregate in a detail band needs a scope, group or report: it then shows what has been seen so far")
    return (Scope.PAGE if band.kind in PAGE_KINDS else Scope.REPORT), None


def all_names(report: Report) -> dict[str, Kind]:
    """Return all that an expression in a band may name, with what it holds."""
    names = _row_names(report) | {key.name: key.kind for key in group_keys(report)}
    return names | {variable.name: variable_formula(report, variable).kind for variable in report.variables}


def _row_names(report: Report) -> dict[str, Kind]:
    """Return what a row has of its own, and the parameters."""
    return report.kinds | {f":{parameter.name}": Kind(parameter.type) for parameter in report.parameters}


# What may go wrong


def _check_names(report: Report) -> None:
    from floodmark.systems.pipeline.report.model import OUTPUTS

    if not report.name:
        raise PlacedError("a report needs a name")
    if not report.fields:
        raise PlacedError("a report needs its fields: fields={'amount': 'money', ...}, what the rows hold")
    for name in report.fields:
        if not all(name.split(".")):
            raise PlacedError(f"a field is named like amount or customer.name, got {name!r}")
    _refuse_twice("parameter", (parameter.name for parameter in report.parameters))
    _refuse_twice("variable", (variable.name for variable in report.variables))
    _refuse_twice("group", (group.name for group in report.groups))
    _refuse_twice("group level", (str(group.level) for group in report.groups))
    _refuse_twice("band", (band.place.removeprefix("band ") for band in report.bands))
    _refuse_twice("output", report.outputs)
    for group in report.groups:
        if group.name in report.fields and group.text != group.name:
            raise PlacedError(f"is named like the field {group.name!r} but made of {group.text!r}; give it another name", group.place)
    for variable in report.variables:
        if variable.name in report.fields or variable.name in {group.name for group in report.groups}:
            raise PlacedError("there is a field or a group of that name already", variable.place)
        if variable.reset_group is not None:
            _check_level(report, variable.reset_group, variable.place)
    for name in report.outputs:
        if name not in OUTPUTS:
            raise unknown("output", name, OUTPUTS)
    if not report.outputs:
        raise PlacedError(f"a report needs at least one output: {', '.join(OUTPUTS)}")
    if report.max_groups < 1:
        raise PlacedError(f"max_groups is at least 1, got {report.max_groups}")


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PlacedError(f"{what} {name!r} is there twice")
        seen.add(name)


def _check_level(report: Report, level: int, where: str) -> None:
    levels = [group.level for group in report.groups]
    if level not in levels:
        near = str(min(levels, key=lambda known: abs(known - level))) if levels else ""
        raise PlacedError(f"there is no group of level {level}; levels: {', '.join(map(str, levels)) or 'none'}", where, near)


def _check_query(report: Report) -> None:
    """Hold the query's parameters, columns and order against the report; the rest of it is the source's to judge."""
    query = report.rows
    declared = {parameter.name for parameter in report.parameters}
    for text in (query.where, query.sql or ""):
        for name in re.findall(r"(?<![:\w]):([A-Za-z_]\w*)", re.sub(r"'(?:[^']|'')*'", "''", text)):
            if name not in declared and name not in query.parameters:
                raise unknown("parameter", name, sorted({*declared, *query.parameters}), where="query")
    if query.columns:
        for name in report.fields:
            head = name.split(".")[0]
            if head not in query.columns and head not in {relation.name for relation in query.relations}:
                raise unknown("field", name, query.columns, where="fields: the query does not read it")
    for key in group_keys(report):
        if (key.formula is not None or "." in key.column) and not (query.order_by or report.presorted):
            raise PlacedError(
                f"is made of {key.column if key.formula is None else key.formula.text!r}, which the source cannot order by itself: "
                "give query.order_by, or presorted=True, so that the rows of a group follow each other",
                f"group {key.name!r} (level {key.level})",
            )


def _check_band(report: Report, band: Band) -> None:
    if band.group_level is not None:
        _check_level(report, band.group_level, band.place)
    for index, element in enumerate(band.elements, start=1):
        if not isinstance(element, Valued):
            continue
        try:
            made = formula_of(report, element)
            format_of(report, element)
            if not isinstance(element, Field) and made.calls:
                _check_scope(report, band, *scope_of(band, element))
            _check_moment(report, band, made)
        except PlacedError as error:
            name = f"element {index} ({type(element).__name__} {element.source if isinstance(element, Field) else element.text!r})"
            raise error.within(f"{band.place}, {name}") from error.__cause__


def _check_scope(report: Report, band: Band, scope: Scope, level: int | None) -> None:
    """Refuse an aggregate whose rows are still to come when its band is printed, or that no row belongs to."""
    if level is not None:
        _check_level(report, level, "its group_level")
    if scope is Scope.PAGE and band.kind not in PAGE_KINDS:
        raise PlacedError("scope page is for page headers and page footers: elsewhere it is not known yet which page this will be")
    late = {
        BandKind.TITLE: "the summary",
        BandKind.PAGE_HEADER: "the page_footer" if scope is Scope.PAGE else "",
        BandKind.GROUP_HEADER: "the group_footer"
        if level is not None and band.group_level is not None and level >= band.group_level
        else "",
    }.get(BandKind(band.kind), "")
    if late:
        raise PlacedError(f"an aggregate in the {band.kind} is printed before its rows have been read; put it into {late}")
    inner = level is not None and band.group_level is not None and level > band.group_level
    if inner or (level is not None and band.kind is BandKind.SUMMARY):
        raise PlacedError(f"the groups of level {level} have ended when the {band.kind} is printed; use its own scope")


def _check_moment(report: Report, band: Band, made: Formula) -> None:
    """Refuse a value that does not exist when its band is printed."""
    variables = {variable.name: variable for variable in report.variables}
    outside = [name for name in made.inputs if not name.startswith(":") and name not in {call.text for call in made.calls}]
    for name in outside:
        variable = variables.get(name)
        if variable is not None and variable.reset_on == "page" and band.kind not in PAGE_KINDS:
            raise PlacedError(f"the variable {name!r} begins anew with every page and can be printed in page headers and page footers only")
        if band.kind is BandKind.TITLE:
            raise PlacedError(f"the title is printed before the first row, so {name!r} has no value yet")
        if band.kind is BandKind.SUMMARY and variable is None:
            raise PlacedError(f"the summary belongs to no row, so {name!r} has no one value; use an aggregate or a variable")


def _article(kind: Kind) -> str:
    return {Kind.INTEGER: "whole numbers", Kind.DATE: "dates", Kind.DATETIME: "dates with a time"}.get(kind, f"{kind} values")


def _suitable(kind: Kind) -> FormatType:
    return FormatType(resolved(Format(), kind).type)
