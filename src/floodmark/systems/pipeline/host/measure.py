"""The pipeline's own speed: rows that are made beforehand go through one stream, grouped, while nobody feeds it.

Measured from the start of the stream to its end, with everything a stream does but a socket: fetch, demand, grouped sum, count and
average of one column by `groups` keys, batches to the consumer. The rows are one lap of LAP_COUNT, over and over, in chunks cut from it
without a copy: what the source costs is next to nothing, and what comes out is known.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

import polars as pl

from floodmark.systems.pipeline import Pipeline, Query
from floodmark.systems.pipeline.errors import QueryRefusedError
from floodmark.systems.pipeline.host.channel import grouping
from floodmark.systems.pipeline.host.figures import Groups, groups_of
from floodmark.systems.pipeline.host.options import Options
from floodmark.systems.pipeline.host.rows import TABLE, rows_of
from floodmark.systems.pipeline.source.base import Cursor, Pager

LAP_COUNT = 100_000


class LapSource:
    """Whole laps of the same rows."""

    name = "laps"

    def __init__(self, laps: int, groups: int) -> None:
        self._laps = laps
        self._lap = rows_of(0, [b""] * LAP_COUNT, groups).select("id", "value", "category")

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Stand before the first row."""
        return LapCursor(self._lap, self._laps * LAP_COUNT)

    async def close(self) -> None:
        """Nothing to give back."""


class LapCursor:
    """Its place is a row's number."""

    def __init__(self, lap: pl.DataFrame, total: int) -> None:
        self._lap = lap
        self._at = 0
        self.total: int | None = total

    @property
    def position(self) -> Hashable:
        """Rows before it."""
        return self._at

    @property
    def exhausted(self) -> bool:
        """Whether all were given."""
        return self.total is not None and self._at >= self.total

    async def fetch(self, count: int) -> pl.DataFrame:
        """Cut the next chunk; one that ends a lap and begins the next is put together."""
        assert self.total is not None
        count = min(count, self.total - self._at)
        begin = self._at % LAP_COUNT
        rows = self._lap.slice(begin, count)
        while len(rows) < count:
            rows = pl.concat([rows, self._lap.head(count - len(rows))])
        self._at += count
        return rows

    def seek(self, position: Hashable) -> None:
        """Go to a row."""
        if not isinstance(position, int):
            raise QueryRefusedError(f"no row has the number {position!r}")
        self._at = position

    async def close(self) -> None:
        """Nothing to give back."""


async def measure(pipeline: Pipeline, options: Options) -> tuple[float, Groups]:
    """Run such a stream. Returns: records per second, and its groups."""
    laps = -(-options.measure_records // LAP_COUNT)
    source = LapSource(laps, options.measure_groups)
    started_ns = time.monotonic_ns()
    stream_id, stream = await pipeline.start_pipeline(
        source=source,
        query=Query(table=TABLE),
        enable_cache=False,
        chunk_size=options.measure_chunk,
        max_demand=options.measure_chunk,
        buffer_size=2 * options.measure_chunk,
        grouped_aggregations=grouping(options.measure_groups, ("sum", "count", "avg")),
    )
    async with stream:
        count = 0
        async for batch in stream.batches():
            count += len(batch)
        speed_hz = count / ((time.monotonic_ns() - started_ns) / 1e9)
    snapshot = pipeline.get_aggregation_snapshot(stream_id).grouped_aggregations[0]
    pipeline.registry.deregister(stream_id)
    return speed_hz, groups_of(snapshot, records=LAP_COUNT, groups=options.measure_groups, laps=laps)
