"""What every source offers: it opens queries, and a cursor hands out their rows in chunks.

A cursor holds at most a chunk or two, whatever the size of the result. It has one reader: `fetch` is not called while another `fetch` runs.
Cancelling a fetch is safe: no row is lost or given twice, the next fetch goes on where the last finished one ended.
Errors: `QueryError` may be tried again, the position has not moved; `QueryRefusedError` will never work; `UsageError` before any query.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, Protocol

import polars as pl

from floodmark.systems.pipeline.query import Query

Pager = Literal["keyset", "offset"]


class Cursor(Protocol):
    """A place in the result of a query."""

    @property
    def position(self) -> Hashable:
        """Where the next row will come from: equal positions of equal queries give equal rows, as long as the data stays."""

    @property
    def total(self) -> int | None:
        """How many rows the query has in all, where that is known."""

    @property
    def exhausted(self) -> bool:
        """Whether it is known that no rows are left; a fetch then asks nothing and gives no rows."""

    async def fetch(self, count: int) -> pl.DataFrame:
        """Give the next rows, at most `count`; fewer, or none, mean the end of the data."""

    def seek(self, position: Hashable) -> None:
        """Go on at a position that a cursor of the same query had. Not while a fetch runs."""

    async def close(self) -> None:
        """Give back what the cursor holds; an unfinished query is interrupted. Closing twice is fine."""


class Source(Protocol):
    """Something that queries can be put to. May be shared by any number of streams."""

    @property
    def name(self) -> str:
        """Which data this is, without passwords: part of cache keys, log lines and events."""

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Check the query and stand before its first row.

        `keyset` goes on after the last row's key: the cost of a chunk does not grow with its place. `offset` counts rows from the start.
        """

    async def close(self) -> None:
        """Give back connections and threads. Close the cursors first."""
