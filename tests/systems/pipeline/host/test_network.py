"""Rows that come over a network of real processes: the page server, the fault proxy in front of it, and the pipeline behind both."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Options, RefusedError
from floodmark.systems.pipeline.errors import QueryError
from floodmark.systems.pipeline.host.feed import write_rows
from floodmark.systems.pipeline.host.network import Network, NetworkError, checked_faults
from floodmark.systems.pipeline.host.pages import page
from floodmark.systems.pipeline.host.rows import TABLE, rows_of
from floodmark.systems.pipeline.query import Query
from tests.drivers.harness import on_loop
from tests.systems.pipeline.host.hosted import hosted, offers, records

OPTIONS: Options = {"records": "2000", "chunk_size": 100, "demand": 100, "max_demand": 100, "store": "http"}
CUTS = "limit=50KB,direction=downstream"


@on_loop
async def test_page_gives_rows_from_an_offset_and_the_whole_count(tmp_path: Path) -> None:
    path = tmp_path / "aa.db"
    await write_rows(path, rows_of(0, [b"\x00\xff"] * 10, 3))

    told = json.loads(page(path, TABLE, 7, 5))

    assert told["total"] == 10
    assert [row["id"] for row in told["rows"]] == [7, 8, 9]
    assert told["rows"][0]["payload"] == "AP8="


@on_loop
async def test_connections_cut_in_mid_page_lose_no_row_and_repeat_none(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({**OPTIONS, "network": CUTS})

        connection.publish_batch(offers(records(2000)), 1)
        await host.came(2000)
        figures = await host.settled()
        await connection.close()

    assert host.payloads == records(2000)
    assert figures["network_limit_hits"] == figures["retries"] >= 5
    assert (figures["queries_failed"], figures["groups_wrong"], figures["failed"]) == (0, 0, 0)


@on_loop
async def test_network_without_faults_costs_no_retry(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect(OPTIONS)

        connection.publish_batch(offers(records(2000)), 1)
        await host.came(2000)
        figures = await host.settled()
        await connection.close()

    assert host.payloads == records(2000)
    assert figures["retries"] == 0
    assert not [name for name in figures if name.startswith("network_")]


@on_loop
async def test_network_that_lets_nothing_through_ends_the_stream_with_the_reason(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({**OPTIONS, "network": "limit=300B,direction=downstream"})

        connection.publish_batch(offers(records(2000)), 1)
        async with asyncio.timeout(20):
            while not host.recorder.ends:  # noqa: ASYNC110  nothing signals it
                await asyncio.sleep(0.01)
        await connection.close()

    ((_, reason),) = host.recorder.ends
    assert "the query failed 4 times" in reason
    assert "before its end" in reason


@on_loop
async def test_fault_that_the_proxy_does_not_know_refuses_the_stream_in_its_words(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        with pytest.raises(RefusedError, match=r"the fault proxy did not start: .*lmit"):
            await host.connect({**OPTIONS, "network": "lmit=50KB"})


@on_loop
async def test_network_closed_leaves_no_process_and_its_source_fails_in_a_way_that_may_pass(tmp_path: Path) -> None:
    await write_rows(tmp_path / "aa.db", rows_of(0, [b"x"] * 10, 3))
    network = Network(tmp_path, ())
    await network.start()
    source = network.source("aa")
    cursor = await source.open(Query(table=TABLE))
    before = await cursor.fetch(5)

    await network.close()
    with pytest.raises(QueryError):
        await cursor.fetch(5)
    await cursor.close()
    await source.close()

    assert before["payload"].to_list() == [b"x"] * 5
    assert await network.figures() == {}


@on_loop
async def test_network_in_no_folder_is_an_error_in_words(tmp_path: Path) -> None:
    network = Network(tmp_path / "nowhere", ())
    try:
        with pytest.raises(NetworkError, match="the page server did not start"):
            await network.start()
    finally:
        await network.close()


@pytest.mark.parametrize("text", ["--seed", "127.0.0.1:1=127.0.0.1:2", "limit=1KB;ls", "-x=1"])
def test_faults_that_are_more_than_faults_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no fault of the proxy"):
        checked_faults(text)
