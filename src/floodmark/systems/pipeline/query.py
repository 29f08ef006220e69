"""What to read from a source: a table or a SQL text, which columns and rows, in which order, with which related rows.

A `Query` is plain data: it knows no database. Names (table, columns, order, key, relations) are quoted by whoever runs it; values travel
as `parameters`, written `:name` in `where` and `sql`, and are never pasted into the text. Only `where` and `sql` are SQL, and are the
caller's own words: do not build them from what a stranger typed.

Order: `"amount"` ascends, `"-amount"` or `"amount desc"` descends. NULL is the smallest value in every source: first when ascending, last
when descending. Rows that compare equal come in the order of the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from floodmark.core.errors import UsageError

RELATED_ROWS_LIMIT = 100_000  # related rows that one chunk may bring along, all held in memory


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column to order by."""

    column: str
    descending: bool = False


class Relation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of another table that belong to a row: `local` columns here equal `foreign` columns there.

    `belongs_to` gives one struct per row (or null), `has_many` a list of structs (or an empty one). With `columns` only those come along.
    """

    name: str  # the column that the related rows arrive in
    kind: Literal["belongs_to", "has_many"]
    table: str
    local: tuple[str, ...]
    foreign: tuple[str, ...]
    columns: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()  # of the rows in a has_many list
    relations: tuple[Relation, ...] = ()  # of the related rows themselves
    rows_limit: int = RELATED_ROWS_LIMIT

    def __post_init__(self) -> None:
        if not self.name or "." in self.name:
            raise UsageError(f"a relation's name must not be empty and holds no dot, got {self.name!r}")
        if not self.local or len(self.local) != len(self.foreign):
            raise UsageError(
                f"relation {self.name!r} pairs {len(self.local)} local with {len(self.foreign)} foreign columns; "
                "give as many of both, and at least one"
            )
        if self.rows_limit < 1:
            raise UsageError(f"relation {self.name!r}: rows_limit must be at least 1, got {self.rows_limit}")


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows to read. Neither table nor sql: all that the source has, where it has only one thing (a file, an iterable, an address)."""

    table: str | None = None
    sql: str | None = None
    columns: tuple[str, ...] = ()  # none given: all
    where: str = ""
    parameters: Mapping[str, Any] = {}
    order_by: tuple[str, ...] = ()
    key: tuple[str, ...] = ()  # unique together; none given: the table's primary key, or the row's own number
    limit: int | None = None
    relations: tuple[Relation, ...] = ()
    counted: bool = True  # whether the source should find out how many rows there are, where that is cheap

    def __post_init__(self) -> None:
        if self.table is not None and self.sql is not None:
            raise UsageError(f"a query reads a table or a SQL text, not both; got table={self.table!r} and sql={self.sql[:60]!r}")
        if self.table == "" or (self.sql is not None and not self.sql.strip(" ;\n\t")):
            raise UsageError("a query's table or SQL text must not be empty")
        if self.limit is not None and self.limit < 0:
            raise UsageError(f"a query's limit must be 0 or more rows, got {self.limit}")
        for what, names in (("columns", self.columns), ("key", self.key), ("relations", [relation.name for relation in self.relations])):
            if len(set(names)) < len(names):
                raise UsageError(f"a query's {what} name something twice: {', '.join(names)}")
        _ = self.orders

    @property
    def orders(self) -> tuple[Order, ...]:
        """What to order by, taken apart; a column named twice counts where it stands first."""
        return orders(self.order_by)


def orders(texts: tuple[str, ...]) -> tuple[Order, ...]:
    """Take the words of `order_by` apart.

    >>> [(order.column, order.descending) for order in orders(("-amount", "sold_on asc", "id desc", "unit price"))]
    [('amount', True), ('sold_on', False), ('id', True), ('unit price', False)]
    """
    found: dict[str, Order] = {}
    for text in texts:
        name, descending = text.strip(), False
        if name.startswith("-"):
            name, descending = name[1:].strip(), True
        else:
            words = name.rsplit(None, 1)
            if len(words) == 2 and words[1].lower() in ("asc", "desc"):
                name, descending = words[0], words[1].lower() == "desc"
        if not name:
            raise UsageError(f'order_by takes "column", "-column" or "column desc", got {text!r}')
        found.setdefault(name, Order(column=name, descending=descending))
    return tuple(found.values())
