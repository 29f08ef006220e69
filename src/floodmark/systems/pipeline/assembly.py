"""Puts the parts of a stream together from its options: what feeds the producer and what the stage does with the rows.

Parts that a stream does not use are not imported: a database driver, conversion, the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.aggregate import Aggregates, Grouping, PartitionedAggregates
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.settings import StreamSettings
from floodmark.systems.pipeline.stage import Aggregating
from floodmark.systems.pipeline.transform import check_signature

if TYPE_CHECKING:
    from floodmark.systems.pipeline.cache import QueryCache
    from floodmark.systems.pipeline.relations import LoadConfig
    from floodmark.systems.pipeline.source.base import Cursor, Source

FOR_GROUPINGS = "groupings"  # instead of a LoadConfig


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
    if not isinstance(given, str):
        raise UsageError(f"a query is a Query, the name of a table or the text of a SELECT, got {type(given).__name__}")
    first = given.split(None, 1)[0].lower() if given.strip() else ""
    return Query(sql=given) if first in ("select", "with", "values", "from") and len(given.split()) > 1 else Query(table=given)


def groupings_of(settings: StreamSettings) -> tuple[Grouping, ...]:
    """The groupings, which may be given as mappings."""
    return tuple(each if isinstance(each, Grouping) else msgspec.convert(each, Grouping) for each in settings.grouped_aggregations)


def stage_parts(settings: StreamSettings) -> StageParts:
    """Set up aggregates and conversion. Raises: UsageError, TransformerError."""
    if settings.transformer is not None:
        check_signature(settings.transformer)
    groupings = groupings_of(settings)
    aggregates: Aggregating | None = None
    if settings.aggregations or groupings:
        if settings.partition_count > 1:
            aggregates = PartitionedAggregates(settings.aggregations, groupings, partition_count=settings.partition_count)
        else:
            aggregates = Aggregates(settings.aggregations, groupings)
    return StageParts(aggregates=aggregates, convert=_conversion(settings.conversion))


def _conversion(given: Any) -> Callable[[pl.DataFrame], pl.DataFrame] | None:
    """A function from options of convert(), which may be a mapping; True stands for the defaults, None and False for none."""
    if given is None or given is False:
        return None
    from floodmark.systems.pipeline.convert import Conversion, convert

    options = Conversion() if given is True else given if isinstance(given, Conversion) else msgspec.convert(given, Conversion)
    return functools.partial(convert, options=options)


async def open_feed(settings: StreamSettings, cache: QueryCache | None) -> Feed:
    """Open the query; rows go through the cache and the loader where the options say so.

    Raises: QueryError, QueryRefusedError, UsageError; nothing is left open then.
    """
    given, owned = _source(settings.source)
    try:
        query = query_of(settings.query)
        source = given
        load = _for_groupings(settings, query) if settings.load_config == FOR_GROUPINGS else settings.load_config
        may_come_again = owned is None or isinstance(settings.source, str)  # an iterable wrapped for this stream never does
        if cache is not None and settings.enable_cache and may_come_again:
            from floodmark.systems.pipeline.cache import CachedSource

            source = CachedSource(given, cache, load=load)
        relate = None
        if query.relations or load is not None:
            from floodmark.systems.pipeline.relations import Loader

            loader = Loader(source, query.relations, load)
            relate = loader.load if loader.paths else None
        cursor = await source.open(query, pager=settings.pager)  # type: ignore[arg-type]  # checked by the settings
    except BaseException:
        if owned is not None:
            await owned.close()
        raise
    return Feed(cursor=cursor, relate=relate, close=functools.partial(_close, cursor, owned))


def _for_groupings(settings: StreamSettings, query: Query) -> LoadConfig:
    """Of the relations that the query declares, those that the groupings lead through, two levels deep at most."""
    from floodmark.systems.pipeline.relations import LoadConfig, declared

    known = declared(query.relations)
    paths = [path for each in groupings_of(settings) for path in (*each.group_by, *(each.fields or ()))]
    used = tuple(way for way in known if any(path.startswith(f"{way}.") for path in paths))
    return LoadConfig(strategy="selective", required=used, max_depth=2)


def _source(given: Any) -> tuple[Source, Source | None]:
    """A source, and the same again if it was made here and so must be closed with the stream."""
    if isinstance(given, str):
        from floodmark.systems.pipeline.source.open import source_from

        made = source_from(given)
        return made, made
    if hasattr(given, "open"):
        return given, None
    from floodmark.systems.pipeline.source.iterable import IterableSource

    wrapped: Source = IterableSource(given)
    return wrapped, wrapped


async def _close(cursor: Cursor, source: Source | None) -> None:
    try:
        await cursor.close()
    finally:
        if source is not None:
            await source.close()
