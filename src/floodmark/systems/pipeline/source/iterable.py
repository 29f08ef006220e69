"""Rows that Python code makes: a sync or async iterable of dicts or DataFrames.

Rows come as they are made: such a source can pick columns and stop at a limit, nothing else. A sync iterable is asked in a thread, where it
may block. An iterator can be read once; give a function that makes a new one to read the rows again. Memory: one chunk, and the frame the
iterable last gave.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import Any

import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.batch import frame_of
from floodmark.systems.pipeline.errors import QueryError, QueryRefusedError
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.base import Cursor, Pager
from floodmark.systems.pipeline.source.statement import unknown
from floodmark.systems.pipeline.source.steady import Steady
from floodmark.systems.pipeline.source.threads import SHARED, Lane

Item = Mapping[str, Any] | pl.DataFrame
Items = Iterable[Item] | AsyncIterable[Item] | pl.DataFrame
NUMBERS = itertools.count(1)


class IterableSource:
    """An iterable, or a function that makes one for each query."""

    def __init__(self, items: Items | Callable[[], Items], *, name: str = "") -> None:
        """Take dicts, DataFrames, one DataFrame, or what makes them. Without a name it gets one that no other source has."""
        self._items = items
        if isinstance(items, Mapping) or not (callable(items) or isinstance(items, (Iterable, AsyncIterable, pl.DataFrame))):
            raise UsageError(f"an iterable of dicts or DataFrames, or a function that makes one, is needed; got {type(items).__name__}")
        self._name = name or f"iterable:{next(NUMBERS)}"
        self._was_opened = False
        self._is_held = False

    @property
    def name(self) -> str:
        """The given name, or a number."""
        return self._name

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Begin to read; the pager makes no difference."""
        for what, given in (("sql", query.sql), ("where", query.where), ("order_by", query.order_by), ("key", query.key)):
            if given:
                raise QueryRefusedError(
                    f"{self.name} gives its rows as they come and knows no {what}; filter and order where they are made"
                )
        items = self._items() if callable(self._items) else self._items
        items = [items] if isinstance(items, pl.DataFrame) else items
        is_iterator = isinstance(items, (Iterator, AsyncIterator)) and not callable(self._items)
        if is_iterator and self._was_opened:
            raise QueryRefusedError(f"{self.name} is an iterator and was read already; give a function that makes a new one")
        self._was_opened = True
        if not self._is_held:
            self._is_held = True
            SHARED.hold()
        return _IterableCursor(items, query, self.name)

    async def close(self) -> None:
        """Give the threads back."""
        if self._is_held:
            self._is_held = False
            SHARED.release()


class _IterableCursor:
    """Collects items to chunks."""

    def __init__(self, items: Iterable[Item] | AsyncIterable[Item], query: Query, name: str) -> None:
        self._name = name
        self._columns = query.columns
        self._limit = query.limit
        self._total = _length(items)
        if self._total is not None and query.limit is not None:
            self._total = min(self._total, query.limit)
        self._sync = iter(items) if isinstance(items, Iterable) else None
        self._async = aiter(items) if isinstance(items, AsyncIterable) else None
        self._lane = Lane()
        self._steady = Steady()
        self._rows: list[Mapping[str, Any]] = []  # INVARIANT: rows come before the frame in the order of the data
        self._frame: pl.DataFrame | None = None
        self._rows_count = 0
        self._skip_count = 0
        self._is_ended = False
        self._broken = False

    @property
    def position(self) -> Hashable:
        """Rows before it."""
        return self._rows_count

    @property
    def total(self) -> int | None:
        """The iterable's length, if it has one that counts rows; by its end in any case."""
        return self._rows_count if self.exhausted else self._total

    @property
    def exhausted(self) -> bool:
        """Known when the iterable has ended."""
        at_limit = self._limit is not None and self._rows_count >= self._limit
        return at_limit or (self._is_ended and not self._waiting)

    async def fetch(self, count: int) -> pl.DataFrame:
        """Take items until they make a chunk."""
        left = count if self._limit is None else min(count, self._limit - self._rows_count)
        wanted = max(left, 0) + self._skip_count
        while wanted > 0 and self._waiting < wanted and not self._is_ended:
            if self._broken:
                raise QueryRefusedError(f"{self._name} broke while it made rows and cannot go on")
            if self._sync is not None:
                await self._lane.run(partial(self._fill, wanted))
            else:
                await self._fill_async(wanted)
        if self._skip_count:
            self._take(min(self._skip_count, self._waiting))
            self._skip_count = 0
        frame = self._take(min(max(left, 0), self._waiting))
        frame = self._steady.settled(self._picked(frame)) if frame.height else self._steady.empty(self._columns or self._steady.names)
        self._rows_count += frame.height
        return frame

    def seek(self, position: Hashable) -> None:
        """Go forward; what was read is gone."""
        forward_count = position - self._rows_count if isinstance(position, int) else -1
        if forward_count < 0:
            raise QueryRefusedError(f"{self._name} cannot go back from row {self._rows_count} to {position}")
        self._skip_count += forward_count
        self._rows_count += forward_count

    async def close(self) -> None:
        """Close the generator, so that its `finally` runs now."""
        await self._lane.settled()
        self._rows, self._frame, self._is_ended = [], None, True
        if self._sync is not None and hasattr(self._sync, "close"):
            await self._lane.finish(self._sync.close)
        elif self._async is not None and hasattr(self._async, "aclose"):
            await self._async.aclose()

    @property
    def _waiting(self) -> int:
        return len(self._rows) + (0 if self._frame is None else self._frame.height)

    def _fill(self, wanted: int) -> None:
        assert self._sync is not None
        try:
            for item in self._sync:
                if self._kept(item, wanted):
                    return
        except Exception as exc:
            self._broken = True
            raise _failed(exc, self._name) from exc
        self._is_ended = True

    async def _fill_async(self, wanted: int) -> None:
        assert self._async is not None
        try:
            async for item in self._async:
                if self._kept(item, wanted):
                    return
        except Exception as exc:
            self._broken = True
            raise _failed(exc, self._name) from exc
        self._is_ended = True

    def _kept(self, item: Item, wanted: int) -> bool:
        """Keep an item; say whether that is enough for now. A row after a frame turns what waits into one frame."""
        if isinstance(item, pl.DataFrame):
            self._frame = self._all(item)
            self._rows = []
        elif isinstance(item, Mapping):
            if self._frame is not None:
                self._rows, self._frame = list(self._frame.iter_rows(named=True)), None
            self._rows.append(item)
        else:
            raise TypeError(f"a row must be a mapping or a DataFrame, got {type(item).__name__}")
        return self._waiting >= wanted

    def _all(self, item: pl.DataFrame) -> pl.DataFrame:
        parts = [_frame_of(self._rows)] if self._rows else []
        parts += [self._frame] if self._frame is not None else []
        return pl.concat([*parts, item], how="diagonal_relaxed") if parts else item

    def _take(self, count: int) -> pl.DataFrame:
        if self._frame is not None:
            taken = self._frame.head(count)
            self._frame = self._frame.slice(count) if self._frame.height > count else None
            return taken
        rows, self._rows = self._rows[:count], self._rows[count:]
        return _frame_of(rows)

    def _picked(self, frame: pl.DataFrame) -> pl.DataFrame:
        for name in self._columns:
            if name not in frame.columns:
                raise unknown("column", name, frame.columns, self._name)
        return frame.select(self._columns) if self._columns else frame


def _length(items: Iterable[Item] | AsyncIterable[Item]) -> int | None:
    if isinstance(items, list) and items and isinstance(items[0], pl.DataFrame):
        return sum(item.height for item in items if isinstance(item, pl.DataFrame))
    return len(items) if isinstance(items, Sized) else None


def _frame_of(rows: list[Mapping[str, Any]]) -> pl.DataFrame:
    """A frame of dicts that may lack keys or mix types; what does not fit one type becomes text, and a number beyond 128 bits a float."""
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        return pl.DataFrame([{name: row.get(name) for name in names} for row in rows], infer_schema_length=None, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):  # not strict, Polars would make None of a number that is too large
        return frame_of(rows)


def _failed(exc: Exception, name: str) -> Exception:
    """What an iterable raises: our own errors as they are, so that it can say whether to try again; the rest will not pass."""
    if isinstance(exc, (QueryError, QueryRefusedError)):
        return exc
    return QueryRefusedError(f"{name} broke while it made rows: {type(exc).__name__}: {exc}")
