"""Make any source fail, stall or slow down on purpose, and remember what was asked of it.

A fault is decided by the number of the query (a fetch; the first is 0), so that a run can be told beforehand and repeated exactly. A query
that fails does so before it reaches the source, or with `after_rows` when the source has answered: the rows are lost on their way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import QueryError, QueryRefusedError
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.base import Cursor, Pager, Source


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which queries go wrong, and how."""

    fail_first: int = 0  # so many queries fail, from the first on
    fail_queries: frozenset[int] = frozenset()
    refuse_queries: frozenset[int] = frozenset()  # fail in a way that is never tried again
    hang_queries: frozenset[int] = frozenset()  # no answer at all, until cancelled
    delay_s: float = 0.0  # before each answer
    after_rows: bool = False

    def __post_init__(self) -> None:
        if self.fail_first < 0 or not 0 <= self.delay_s < float("inf"):
            raise UsageError(f"fail_first and delay_s must not be negative, got {self.fail_first} and {self.delay_s!r}")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One query that was put to the source."""

    position: Hashable
    count: int
    rows: int | None  # None: it failed


class FaultySource:
    """A source with faults in front of it."""

    def __init__(self, source: Source, faults: Faults | None = None) -> None:
        self._source = source
        self._faults = faults or Faults()
        self.asked: list[Asked] = []  # of all cursors, in order
        self.open_count = 0  # cursors that were opened and not closed
        self._queries_count = 0

    @property
    def name(self) -> str:
        """The name of the source behind."""
        return self._source.name

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Open a cursor that goes wrong as told."""
        cursor = await self._source.open(query, pager=pager)
        self.open_count += 1
        return _FaultyCursor(self, cursor)

    async def close(self) -> None:
        """Close the source behind."""
        await self._source.close()

    async def fetched(self, cursor: Cursor, count: int) -> pl.DataFrame:
        """Fetch, or fail to."""
        number, position = self._queries_count, cursor.position
        self._queries_count += 1
        frame: pl.DataFrame | None = None
        given = False
        try:
            if self._faults.delay_s:
                await asyncio.sleep(self._faults.delay_s)  # the fault itself
            if self._faults.after_rows:
                frame = await cursor.fetch(count)
            self._raise(number)
            if number in self._faults.hang_queries:
                await asyncio.get_running_loop().create_future()
            if frame is None:
                frame = await cursor.fetch(count)
            given = True
            return frame
        finally:
            if not given and frame is not None:
                cursor.seek(position)
            self.asked.append(Asked(position=position, count=count, rows=frame.height if given and frame is not None else None))

    def _raise(self, number: int) -> None:
        if number in self._faults.refuse_queries:
            raise QueryRefusedError(f"query {number} was refused on purpose")
        if number < self._faults.fail_first or number in self._faults.fail_queries:
            raise QueryError(f"query {number} failed on purpose")


class _FaultyCursor:
    """Passes everything on, but for the faults."""

    def __init__(self, source: FaultySource, cursor: Cursor) -> None:
        self._source = source
        self._cursor = cursor
        self._is_closed = False

    @property
    def position(self) -> Hashable:
        """As behind."""
        return self._cursor.position

    @property
    def total(self) -> int | None:
        """As behind."""
        return self._cursor.total

    @property
    def exhausted(self) -> bool:
        """As behind."""
        return self._cursor.exhausted

    async def fetch(self, count: int) -> pl.DataFrame:
        """Fetch, or fail to; an exhausted cursor asks nothing that could fail."""
        if self._cursor.exhausted:
            return await self._cursor.fetch(count)
        return await self._source.fetched(self._cursor, count)

    def seek(self, position: Hashable) -> None:
        """As behind."""
        self._cursor.seek(position)

    async def close(self) -> None:
        """As behind."""
        if not self._is_closed:
            self._is_closed = True
            self._source.open_count -= 1
        await self._cursor.close()
