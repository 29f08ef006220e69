"""The near edge of the pipeline: a source around another one, that counts what the pipeline fetches, fails queries by plan, and lies.

Counting is done at the inner source, before any lie. Which queries fail is a matter of their number: the last `query_failures` of every
`query_failures_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import polars as pl

from floodmark.systems.pipeline.errors import QueryError
from floodmark.systems.pipeline.host.figures import Figures
from floodmark.systems.pipeline.host.lies import Lies
from floodmark.systems.pipeline.host.options import Options
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.base import Cursor, Pager, Source


class EdgeSource:
    """What the pipeline is given as its source."""

    def __init__(self, inner: Source, options: Options, lies: Lies, figures: Figures, taken: Callable[[int], None]) -> None:
        self._inner = inner
        self._options = options
        self._lies = lies
        self._figures = figures
        self._taken = taken

    @property
    def name(self) -> str:
        """The inner one's."""
        return self._inner.name

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Open the inner one."""
        inner = await self._inner.open(query, pager=pager)
        return EdgeCursor(inner, self._options, self._lies, self._figures, self._taken)

    async def close(self) -> None:
        """Close the inner one."""
        await self._inner.close()


class EdgeCursor:
    """Gives what the inner cursor gives, as far as it does not lie."""

    def __init__(self, inner: Cursor, options: Options, lies: Lies, figures: Figures, taken: Callable[[int], None]) -> None:
        self._inner = inner
        self._options = options
        self._lies = lies
        self._figures = figures
        self._taken = taken
        self._ahead_count = lies.tell_all("ahead")
        self._held: pl.DataFrame | None = None
        self._last: pl.DataFrame | None = None
        self._query_count = 0
        self._has_failed = False

    @property
    def position(self) -> Hashable:
        """The inner one's."""
        return self._inner.position

    @property
    def total(self) -> int | None:
        """The inner one's; a liar does not commit itself."""
        return None if self._lies else self._inner.total

    @property
    def exhausted(self) -> bool:
        """The inner one's."""
        return self._inner.exhausted and self._held is None

    async def fetch(self, count: int) -> pl.DataFrame:
        """Fetch, or fail as planned."""
        self._query_count += 1
        self._figures.queries += 1
        block = self._options.query_failures_of
        if (self._query_count - 1) % block >= block - self._options.query_failures:
            self._has_failed = True
            self._figures.queries_failed += 1
            raise QueryError(f"query {self._query_count} fails, as the client has ordered")
        if self._has_failed and self._last is not None and self._lies.tell("repeat"):
            self._has_failed = False
            return self._last
        self._has_failed = False
        try:
            rows = await self._fetch(count)
        except QueryError:
            self._has_failed = True
            raise
        while len(rows) == count and self._lies.tell("skip"):
            rows = await self._fetch(count)
        self._last = rows
        return rows

    async def _fetch(self, count: int) -> pl.DataFrame:
        """The next rows; a liar keeps some more ready."""
        if not self._ahead_count:
            rows = await self._inner.fetch(count)
            self._taken(len(rows))
            return rows
        held = self._held
        fetched = await self._inner.fetch(count + self._ahead_count - (0 if held is None else len(held)))
        self._taken(len(fetched))
        rows = fetched if held is None else pl.concat([held, fetched])
        self._held = rows.slice(count) if len(rows) > count else None
        return rows.head(count)

    def seek(self, position: Hashable) -> None:
        """The inner one's."""
        self._inner.seek(position)

    async def close(self) -> None:
        """Close the inner one."""
        await self._inner.close()
