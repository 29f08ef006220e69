"""Use what a run will use, once and small, before anybody measures: what libraries load and set up at their first use is then there."""

from __future__ import annotations

from pathlib import Path

from floodmark.systems.pipeline import Pipeline
from floodmark.systems.pipeline.host.channel import grouping
from floodmark.systems.pipeline.host.feed import write_rows
from floodmark.systems.pipeline.host.rows import TABLE, rows_of

GROUPS = 10
ROWS_COUNT = 20_000  # so many chunks that every thread has taken its memory


async def run_in_table(pipeline: Pipeline, folder: Path) -> None:
    """Write a table and query it; nothing of it is left."""
    from floodmark.systems.pipeline.source.sqlite import SqliteSource

    path = folder / "run-in.db"
    await write_rows(path, rows_of(0, [b"run-in"] * ROWS_COUNT, GROUPS))
    source = SqliteSource(str(path))
    try:
        stream_id, stream = await pipeline.start_pipeline(
            source=source, query=TABLE, enable_cache=False, grouped_aggregations=grouping(GROUPS, ())
        )
        async with stream:
            async for batch in stream.batches():
                batch.frame()["payload"].to_list()
        pipeline.registry.deregister(stream_id)
    finally:
        await source.close()
        path.unlink()
