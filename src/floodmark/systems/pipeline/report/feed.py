"""A source seen through a report: the same rows, brought to the report's fields, with its computed groups and derived values beside them.

So the pipeline's aggregates, which know columns only, can aggregate `amount * quantity`, and sum what a CSV file holds as text. A row that
cannot be read is left out; the cursor goes on reading until a chunk is full, because a short chunk means the end of the data.

Limits: what comes from a relationship is loaded behind the source and is not here yet; whoever reads the stream shapes its rows again
(`Shape.rows` changes nothing that is in shape already). A total that the source knows counts the rows left out, too. A chunk that comes
from the pipeline's cache was shaped before it went there: what was left out of it is not counted again.
"""

from __future__ import annotations

from collections.abc import Hashable

import polars as pl

from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.report.shape import Shape
from floodmark.systems.pipeline.source.base import Cursor, Pager, Source


class ShapedSource:
    """A source that brings the rows of one query into shape, and leaves others (those of relationships) as they are.

    Closing it leaves the source itself open.
    """

    def __init__(self, source: Source, shape: Shape, query: Query) -> None:
        self._source, self._shape, self._query = source, shape, query

    @property
    def name(self) -> str:
        """Return the source's name and the report's fields: a cache must not mix shaped rows with others."""
        return f"{self._source.name} as {self._shape.signature}"

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Open a query at the source."""
        cursor = await self._source.open(query, pager=pager)
        return ShapedCursor(cursor, self._shape) if query == self._query else cursor

    async def close(self) -> None:
        """Leave the source to whoever opened it."""


class ShapedCursor:
    """A cursor that gives shaped rows, in full chunks up to the end."""

    def __init__(self, cursor: Cursor, shape: Shape) -> None:
        self._cursor, self._shape = cursor, shape
        self._pending: list[pl.DataFrame] = []  # shaped rows of a chunk that a failing query has interrupted

    @property
    def position(self) -> Hashable:
        """Return where the next row comes from."""
        return (self._cursor.position, self._pending_count)

    @property
    def total(self) -> int | None:
        """Return how many rows the query has, those that cannot be read included."""
        return self._cursor.total

    @property
    def exhausted(self) -> bool:
        """Return whether no rows are left."""
        return self._cursor.exhausted and not self._pending

    async def fetch(self, count: int) -> pl.DataFrame:
        """Give the next readable rows, at most `count`; fewer mean the end.

        A failing or cancelled query loses nothing: what has been read for this chunk is kept for the next call.
        """
        while (missing_count := count - self._pending_count) > 0 and not self._cursor.exhausted:
            chunk = await self._cursor.fetch(missing_count)
            if len(chunk.columns):
                self._pending.append(self._shape.rows(chunk))
            if len(chunk) < missing_count:
                break
        rows = pl.concat(self._pending) if self._pending else pl.DataFrame()
        self._pending = [rows.slice(count)] if len(rows) > count else []
        return rows.head(count)

    def seek(self, position: Hashable) -> None:
        """Go on at a position that a cursor of the same query had between two chunks."""
        assert isinstance(position, tuple)
        self._pending = []
        self._cursor.seek(position[0])

    async def close(self) -> None:
        """Give back what the cursor holds."""
        self._pending = []
        await self._cursor.close()

    @property
    def _pending_count(self) -> int:
        return sum(map(len, self._pending))
