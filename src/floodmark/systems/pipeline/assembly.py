"""Puts the parts of a stream together from its options: what feeds the producer and what the stage does with the rows.

Parts that a stream does not use are not imported: a database driver, conversion, the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from floodmark.core.clock import Clock
from floodmark.systems.pipeline.aggregate import Aggregates, Grouping
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.settings import StreamSettings
from floodmark.systems.pipeline.stage import Aggregating
from floodmark.systems.pipeline.transform import check_signature

if TYPE_CHECKING:
    from floodmark.systems.pipeline.source.base import Cursor, Source


class Shared:
    """What the streams of one pipeline have in common besides their registry."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock


class StageParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the stage does with the rows."""

    aggregates: Any = None  # Aggregating
    convert: Callable[[pl.DataFrame], pl.DataFrame] | None = None


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows come from; `close` gives back the cursor, and the source if it was made for this stream."""

    cursor: Any  # Cursor
    relate: Callable[[pl.DataFrame], Awaitable[pl.DataFrame]] | None = None
    close: Callable[[], Awaitable[None]]


def query_of(given: Query | str) -> Query:
    """A query as it is, or from the name of a table or the text of a SELECT."""
    if isinstance(given, Query):
        return given
    first = given.split(None, 1)[0].lower() if given.strip() else ""
    return Query(sql=given) if first in ("select", "with", "values", "from") and len(given.split()) > 1 else Query(table=given)


def stage_parts(settings: StreamSettings) -> StageParts:
    """Set up aggregates and conversion. Raises: UsageError, TransformerError."""
    if settings.transformer is not None:
        check_signature(settings.transformer)
    groupings = tuple(each if isinstance(each, Grouping) else msgspec.convert(each, Grouping) for each in settings.grouped_aggregations)
    aggregates: Aggregating | None = None
    if settings.aggregations or groupings:
        aggregates = Aggregates(settings.aggregations, groupings)
    return StageParts(aggregates=aggregates)


async def open_feed(settings: StreamSettings, shared: Shared) -> Feed:
    """Open the query. Raises: QueryError, QueryRefusedError, UsageError."""
    source: Source = settings.source
    query = query_of(settings.query)
    cursor: Cursor = await source.open(query, pager=settings.pager)  # type: ignore[arg-type]  # checked by the settings
    return Feed(cursor=cursor, close=functools.partial(_close, cursor, None))


async def _close(cursor: Cursor, source: Source | None) -> None:
    try:
        await cursor.close()
    finally:
        if source is not None:
            await source.close()
