"""A real PostgreSQL behind the fault proxy: connections are cut in mid-query or reset, and a stream of its rows has each of them once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.proxy import Proxy, running
from floodmark.systems.pipeline import Pipeline, Query
from floodmark.systems.pipeline.source.postgres import PostgresSource
from tests.live.test_postgres_source import ROWS_COUNT, uri

__all__ = ["uri"]  # the fixture
LIMIT_S = 60
CHUNK_ROWS = 500


async def streamed(uri: str, *faults: str, after_batch: Callable[[Proxy, int], None] = lambda proxy, count: None) -> tuple[int, int]:
    """Read the whole table through a proxy with these faults; how often they hit, and how many queries were tried again."""
    parts = urlsplit(uri)
    assert parts.hostname is not None
    assert parts.port is not None
    upstream = (parts.hostname, parts.port)
    rows: list[tuple[str, int]] = []
    async with asyncio.timeout(LIMIT_S), running(("127.0.0.1", 0), upstream, seed=7) as proxy, Pipeline() as pipeline:
        standing = [proxy.add(parse_fault(fault)) for fault in faults]
        source = PostgresSource(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl())
        try:
            _, stream = await pipeline.start_pipeline(
                source=source, query=Query(table="sales"), enable_cache=False, chunk_size=CHUNK_ROWS, retry_delay_s=0.01
            )
            async with stream:
                async for batch in stream.batches():
                    rows += batch.frame().select("region", "id").rows()
                    after_batch(proxy, len(rows))
                figures = stream.figures()
        finally:
            await source.close()
        assert len(rows) == len(set(rows)) == ROWS_COUNT
        assert rows == sorted(rows)
        return sum(fault.hits for fault in standing), figures.retried_count


def test_postgres_connections_cut_in_mid_query_lose_no_row_and_repeat_none(uri: str) -> None:
    cuts_count, retried_count = asyncio.run(streamed(uri, "limit=200KB,direction=downstream"))

    assert cuts_count >= 3
    assert retried_count >= 3


def test_postgres_connections_reset_lose_no_row_and_repeat_none(uri: str) -> None:
    hits: list[int] = []

    def reset(proxy: Proxy, rows_count: int) -> None:
        if rows_count // 4000 > len(hits):
            with proxy.applied(parse_fault("reset")) as active:
                hits.append(active.hits)

    _, retried_count = asyncio.run(streamed(uri, after_batch=reset))

    assert hits == [1] * (ROWS_COUNT // 4000)
    assert retried_count >= 3


def test_postgres_without_a_fault_is_tried_once(uri: str) -> None:
    assert asyncio.run(streamed(uri)) == (0, 0)
