"""Build the SELECT statements of a query: a page after a key, a page at an offset, the whole, a count. Text and values, no database.

A `Plan` is a query after its names were checked against the database: what to select, from what, in which order. Order columns that are
not among the columns asked for are selected too, under names of our own (`HIDDEN`), and dropped from the rows before anyone sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import QueryRefusedError, nearest
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.parameters import bound

HIDDEN = "__floodmark_key_"


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column as the database declares it."""

    name: str
    declared: str = ""  # the type, in the database's words
    nullable: bool = True
    selected_as: str = ""  # an expression to select instead of the bare name, for types that Arrow has no place for


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a total order."""

    expression: str  # quoted
    descending: bool = False
    nullable: bool = True
    placeholder: str = "?"  # how a value to compare with is written; may hold a cast
    result: str = ""  # the name under which its value comes back; filled in by `plan`
    selected_as: str = ""  # how its value is selected when it is not among the columns


class Statement(msgspec.Struct, frozen=True):
    """SQL and the values for its placeholders, in order."""

    text: str
    values: tuple[Any, ...] = ()


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """Where databases differ in what we write."""

    numbered: bool = False  # $1, $2 ... instead of ?
    nulls_are_smallest: bool = False  # by default; else ORDER BY says so

    def finished(self, text: str, values: tuple[Any, ...]) -> Statement:
        """Number the placeholders, if that is the habit. Text holds "\0" for each."""
        parts = text.split("\0")
        if len(parts) - 1 != len(values):
            raise ValueError(f"{len(parts) - 1} placeholders for {len(values)} values")
        marks = [f"${place}" if self.numbered else "?" for place in range(1, len(parts))]
        return Statement("".join(part + mark for part, mark in zip(parts, [*marks, ""], strict=True)), values)


def quoted(name: str) -> str:
    """Quote an identifier.

    >>> print(quoted('the "best" price'))
    "the ""best"" price"
    """
    if "\0" in name:
        raise UsageError(f"a name must not hold a NUL character: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def quoted_path(name: str, known: Sequence[str] = ()) -> str:
    """Quote a table's name; `schema.table` is two names, unless a table is called just that."""
    return quoted(name) if name in known else ".".join(quoted(part) for part in name.split("."))


def unknown(what: str, name: str, known: Sequence[str], where: str) -> QueryRefusedError:
    """Make the error for a name that is not there; it names the nearest one that is, or some that are."""
    near = nearest(name, known)
    shown = ", ".join(sorted(known)[:12]) + (" ..." if len(known) > 12 else "")
    return QueryRefusedError(f"no {what} {name!r} in {where}; " + (f"did you mean {near!r}?" if near else f"there are: {shown or 'none'}"))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked query. Placeholders are still "\0"."""

    dialect: Dialect
    select: str
    source: str  # what stands after FROM
    where: str
    values: tuple[Any, ...]  # of source and where
    terms: tuple[Term, ...]
    is_total: bool  # whether the terms order any two rows, so that one can go on after a row
    hidden: tuple[str, ...]
    names: tuple[str, ...]  # of the columns that come out, without the hidden ones
    limit: int | None

    def page(self, after: tuple[str, tuple[Any, ...]], count: int) -> Statement:
        """The next `count` rows for which the condition `after` (see pager.py) holds."""
        text, values = after
        return self.dialect.finished(f"{self._body(text)} LIMIT {int(count)}", self.values + values)

    def at(self, offset: int, count: int) -> Statement:
        """`count` rows from `offset` on."""
        return self.dialect.finished(f"{self._body('')} LIMIT {int(count)} OFFSET {int(offset)}", self.values)

    def whole(self, after: tuple[str, tuple[Any, ...]] = ("", ()), limit: int | None = None) -> Statement:
        """All rows, or all for which `after` holds."""
        text, values = after
        ending = "" if limit is None else f" LIMIT {int(limit)}"
        return self.dialect.finished(self._body(text) + ending, self.values + values)

    def counted(self, most: int) -> Statement:
        """Count the rows, but not beyond `most`."""
        condition = f" WHERE {self.where}" if self.where else ""
        text = f"SELECT count(*) AS n FROM (SELECT 1 AS one FROM {self.source}{condition} LIMIT {int(most)}) AS counted"
        return self.dialect.finished(text, self.values)

    def _body(self, condition: str) -> str:
        conditions = " AND ".join(f"({part})" for part in (self.where, condition) if part)
        where = f" WHERE {conditions}" if conditions else ""
        return f"SELECT {self.select} FROM {self.source}{where}{self._order()}"

    def _order(self) -> str:
        texts = []
        for term in self.terms:
            text = term.expression + (" DESC" if term.descending else "")
            if term.nullable and not self.dialect.nulls_are_smallest:
                text += " NULLS LAST" if term.descending else " NULLS FIRST"
            texts.append(text)
        return f" ORDER BY {', '.join(texts)}" if texts else ""


def source_text(query: Query) -> tuple[str, tuple[Any, ...]]:
    """A SQL text as something to select from: the text is a subquery, so that order, key and limit apply to its rows."""
    text, values = bound((query.sql or "").strip().rstrip(";").rstrip(), query.parameters, "\0")
    # The line break ends a comment that the text may end with.
    return f"({text}\n) AS given", values


def plan(
    query: Query,
    *,
    dialect: Dialect,
    source: tuple[str, tuple[Any, ...]],
    columns: Mapping[str, Column],
    key: tuple[Term, ...],
    where_it_is: str,
    term_of: Mapping[str, Term],
) -> Plan:
    """Check a query's names and put its statements together.

    Args: `columns` of the table or text, `key` what orders any two rows (may be empty), `term_of` each column as something to order by.
    Raises: QueryRefusedError for a name that is not there; UsageError for a parameter that is missing.
    """
    for names in (query.columns, query.key, [order.column for order in query.orders]):
        for name in names:
            if name not in columns:
                raise unknown("column", name, list(columns), where_it_is)
    names = query.columns or tuple(columns)
    terms = {order.column: msgspec.structs.replace(term_of[order.column], descending=order.descending) for order in query.orders}
    unique = tuple(term_of[name] for name in query.key) or key
    ordered = list(terms.values())
    ordered += [term for term in unique if term.expression not in {known.expression for known in ordered}]
    by_expression = {quoted(name): name for name in names if not columns[name].selected_as}
    settled, hidden, select = [], [], [columns[name].selected_as or quoted(name) for name in names]
    for place, term in enumerate(ordered):
        result = by_expression.get(term.expression) if not term.selected_as else None
        if result is None and unique:  # needed only to go on after a row
            result = f"{HIDDEN}{place}"
            hidden.append(result)
            select.append(f"{term.selected_as or term.expression} AS {quoted(result)}")
        settled.append(msgspec.structs.replace(term, result=result or ""))
    where, values = bound(query.where.strip(), query.parameters, "\0")
    if "--" in where:
        where += "\n"  # the end of a comment that the text may end with
    return Plan(
        dialect=dialect,
        select=", ".join(select),
        source=source[0],
        where=where,
        values=source[1] + values,
        terms=tuple(settled),
        is_total=bool(unique),
        hidden=tuple(hidden),
        names=tuple(names),
        limit=query.limit,
    )
