"""The producer: rows on demand and never beyond it, paging, pauses, memory, retries, telemetry, cache (PR-01 to PR-18)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from floodmark.core.clock import settle
from floodmark.core.errors import UsageError
from floodmark.systems.pipeline import Grouping, Query, Relation, Status
from floodmark.systems.pipeline.errors import PipelineError, QueryError, QueryRefusedError, RetriesExhaustedError, StreamFailedError
from floodmark.systems.pipeline.relations import LoadConfig
from floodmark.systems.pipeline.source.sqlite import SqliteSource
from tests.systems.pipeline.fixtures import Bench, FakeSource, sample_frame, sample_records


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def ids(taking: Any) -> list[int]:
    return [record["id"] for record in await taking]


def test_pr_01_a_demand_of_100_gives_exactly_100_records() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000))

            taken = await ids(stream.take(100))
            await settle()

            assert taken == list(range(1, 101))
            assert stream.figures().in_flight_count == 0
            assert stream.figures().surplus_count == 900

    run(main())


def test_pr_02_a_demand_of_four_chunks_takes_four_queries() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(1000))
            stream = await bench.start(source, chunk_size=50)

            taken = await ids(stream.take(200))

            assert taken == list(range(1, 201))
            assert source.queries == [(0, 50), (50, 50), (100, 50), (150, 50)]

    run(main())


def test_pr_03_a_demand_below_the_chunk_leaves_the_rest_for_the_next() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(1000))
            stream = await bench.start(source, chunk_size=100)

            first = await ids(stream.take(25))
            second = await ids(stream.take(75))

            assert (first, second) == (list(range(1, 26)), list(range(26, 101)))
            assert source.queries == [(0, 100)]

    run(main())


@pytest.mark.parametrize("counted", [True, False], ids=["total known", "total unknown"])
def test_pr_04_exhaustion_gives_the_150_there_are_and_then_the_end(counted: bool) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(FakeSource(sample_frame(150), counted=counted), chunk_size=100)

            taken = await stream.take(300)

            assert len(taken) == 150
            assert await stream.receive() is None
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.COMPLETED

    run(main())


def test_pr_04_exhaustion_at_the_edge_of_a_chunk_is_found_by_an_empty_one() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(200), counted=False)
            stream = await bench.start(source, chunk_size=100)

            taken = [record async for record in stream]

            assert len(taken) == 200
            assert source.offsets == [0, 100, 200]

    run(main())


def test_pr_05_accumulated_demand_of_three_requests_serves_150() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000), chunk_size=40, max_demand=50)

            for _ in range(3):
                stream.ask(50)
            await settle()

            assert stream.figures().buffered_count == 150
            assert stream.figures().asked_count == 150

    run(main())


def test_pr_06_paused_nothing_more_is_emitted() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000))
            await stream.take(100)

            bench.pipeline.pause(stream.stream_id)
            stream.ask(100)
            await bench.manual.advance(5)

            assert stream.figures().records_out == 100

    run(main())


def test_pr_07_resumed_the_stored_demand_is_served() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000))
            bench.pipeline.pause(stream.stream_id)
            taking = asyncio.create_task(ids(stream.take(100)))
            await bench.manual.advance(5)
            assert not taking.done()

            bench.pipeline.resume(stream.stream_id)

            assert await taking == list(range(1, 101))

    run(main())


def test_pr_06_paused_while_a_chunk_is_on_its_way_it_is_kept_for_later() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source, arrived = FakeSource(sample_frame(100)), asyncio.Event()
            source.acts[0] = arrived.wait
            stream = await bench.start(source)
            taking = asyncio.create_task(ids(stream.take(10)))
            await settle()

            bench.pipeline.pause(stream.stream_id)
            arrived.set()
            await settle()

            assert stream.figures().records_out == 0
            assert stream.figures().surplus_count == 100
            bench.pipeline.resume(stream.stream_id)
            assert await taking == list(range(1, 11))

    run(main())


def test_pr_08_memory_over_the_limit_pauses_and_warns() -> None:
    async def main() -> None:
        frame = sample_frame(2000)
        limit_bytes = int(frame.head(1000).estimated_size() / 1.2)
        async with Bench() as bench:
            stream = await bench.start(frame, memory_limit_bytes=limit_bytes)

            stream.ask(10)
            await settle()

            info = bench.pipeline.get_pipeline_info(stream.stream_id)
            assert (info.status, info.reason) == (Status.PAUSED, "memory")
            assert info.memory_usage_bytes > limit_bytes
            assert stream.figures().records_out == 0
            (warning,) = bench.journal.of("memory_warning")
            assert warning.metadata == {"stream_id": stream.stream_id, "action": "pause"}
            assert warning.measurements["memory_usage"] > warning.measurements["threshold"]

    run(main())


def test_pr_09_below_the_threshold_again_chunks_have_their_normal_size() -> None:
    async def main() -> None:
        frame = sample_frame(10_000)
        source = FakeSource(frame)
        async with Bench() as bench:
            stream = await bench.start(source, memory_limit_bytes=int(frame.head(1000).estimated_size() / 0.85), max_demand=1000)

            for count in (1000, 500, 1000):
                await stream.take(count)

            assert [count for _, count in source.queries] == [1000, 500, 1000]
            assert [event.metadata["action"] for event in bench.journal.of("memory_warning")] == ["throttle", "throttle"]
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.RUNNING

    run(main())


def test_pr_09_degraded_chunks_are_halved_but_not_below_100() -> None:
    async def main() -> None:
        for chunk_size, degraded in ((1000, 500), (150, 100), (60, 60)):
            async with Bench() as bench:
                frame = sample_frame(5000)
                source = FakeSource(frame)
                limit_bytes = int(frame.head(chunk_size).estimated_size() / 0.85)
                stream = await bench.start(source, chunk_size=chunk_size, memory_limit_bytes=limit_bytes, max_demand=5000)
                await stream.take(chunk_size)
                await stream.take(1)

                assert source.queries[1][1] == degraded

    run(main())


def test_pr_10_500_records_in_chunks_of_100_take_five_queries() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(500))
            stream = await bench.start(source, chunk_size=100)

            taken = [record["id"] async for record in stream]

            assert taken == list(range(1, 501))
            assert source.offsets == [0, 100, 200, 300, 400]

    run(main())


def test_pr_12_a_query_that_fails_twice_is_tried_again_after_1_and_2_s() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(500)).fail(0, 1, error=QueryError("the server is busy"))
            stream = await bench.start(source, max_retries=3)
            taking = asyncio.create_task(ids(stream.take(10)))

            await bench.manual.advance(2.9)
            assert not taking.done()
            await bench.manual.advance(0.1)

            assert await taking == list(range(1, 11))
            assert [at_s - source.asked_s[0] for at_s in source.asked_s] == [0, 1, 3]
            assert bench.journal.of("producer.error") == []

    run(main())


def test_pr_12_a_success_begins_the_count_of_retries_anew() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(300)).fail(0, 1, 3, 4, error=QueryError("busy"))
            stream = await bench.start(source, chunk_size=100, max_retries=2)
            taking = asyncio.create_task(ids(stream.take(200)))

            await bench.manual.advance(6)

            assert await taking == list(range(1, 201))
            assert source.offsets == [0, 0, 0, 100, 100, 100]

    run(main())


def test_pr_13_a_query_that_fails_four_times_fails_the_stream() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(500)).fail(0, 1, 2, 3, error=QueryError("the server is down"))
            stream = await bench.start(source, max_retries=3)
            taking = asyncio.create_task(stream.take(10))

            await bench.manual.advance(7)

            with pytest.raises(StreamFailedError, match="failed 4 times, last with: QueryError: the server is down") as raised:
                await taking
            assert isinstance(raised.value.__cause__, RetriesExhaustedError)
            assert [at_s - source.asked_s[0] for at_s in source.asked_s] == [0, 1, 3, 7]
            info = bench.pipeline.get_pipeline_info(stream.stream_id)
            assert info.status is Status.FAILED
            assert "the server is down" in info.reason

    run(main())


def test_pr_13_a_refused_query_is_not_tried_again() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(500)).fail(0, error=QueryRefusedError("no such column"))
            stream = await bench.start(source)

            with pytest.raises(StreamFailedError, match="no such column"):
                await stream.take(10)

            assert len(source.queries) == 1

    run(main())


def test_pr_13_a_source_that_gives_more_than_asked_for_fails_the_stream() -> None:
    class Generous(FakeSource):
        pass

    async def main() -> None:
        async with Bench() as bench:
            source = Generous(sample_frame(500))
            stream = await bench.start(source, chunk_size=10)

            async def all_of_it(count: int) -> pl.DataFrame:
                return source.frame

            source.cursors[0].fetch = all_of_it  # type: ignore[method-assign]
            with pytest.raises(StreamFailedError, match="gave 500 rows where 10 were asked for") as raised:
                await stream.take(10)

            assert isinstance(raised.value.__cause__, PipelineError)

    run(main())


def test_pr_14_three_chunks_are_told_three_times_with_their_offsets() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(FakeSource(sample_frame(300), counted=False), chunk_size=100)

            _ = [record async for record in stream]

            events = bench.journal.of("producer.chunk_fetched")
            assert [dict(event.measurements) for event in events] == [{"records": 100, "offset": offset} for offset in (0, 100, 200)]
            assert {event.metadata["stream_id"] for event in events} == {stream.stream_id}

    run(main())


def test_pr_15_the_end_is_told_once_with_its_count_and_duration() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(300), chunk_size=100)
            await stream.take(100)
            await bench.manual.advance(2)

            _ = [record async for record in stream]

            (event,) = bench.journal.of("producer.completed")
            assert event.measurements == {"records": 300, "duration": pytest.approx(2)}
            (stop,) = bench.journal.of("pipeline.stop")
            assert stop.measurements == {"duration": pytest.approx(2), "records_processed": 300}
            assert stop.metadata == {"stream_id": stream.stream_id, "status": "completed"}

    run(main())


def test_pr_16_a_permanent_failure_is_told_once_with_its_reason() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(300)).fail(1, 2, error=QueryError("gone"))
            stream = await bench.start(source, chunk_size=100, max_retries=1)
            await stream.take(100)
            taking = asyncio.create_task(stream.take(1))
            await bench.manual.advance(1)

            with pytest.raises(StreamFailedError):
                await taking

            (event,) = bench.journal.of("producer.error")
            assert event.measurements == {"offset": 100, "retry_count": 1}
            assert event.metadata == {"stream_id": stream.stream_id, "reason": "QueryError: gone"}
            (exception,) = bench.journal.of("pipeline.exception")
            assert "gone" in exception.metadata["reason"]
            assert bench.journal.of("pipeline.stop") == []

    run(main())


async def sales_with_customers(folder: Path) -> SqliteSource:
    """A SQLite file with ten sales of three customers."""
    path = folder / "sales.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table customers (id integer primary key, name text)")
        connection.execute("create table sales (id integer primary key, customer_id integer, amount integer)")
        connection.executemany("insert into customers values (?, ?)", [(number, f"Customer {number}") for number in range(3)])
        connection.executemany("insert into sales values (?, ?, ?)", [(number, number % 3, number * 10) for number in range(1, 11)])
    return SqliteSource(str(path))


CUSTOMER = Relation(name="customer", kind="belongs_to", table="customers", local=("customer_id",), foreign=("id",), columns=("name",))


@pytest.mark.parametrize(
    ("config", "loaded"), [(LoadConfig(required=("customer",)), True), (LoadConfig(optional=("customer",), strategy="lazy"), False)]
)
def test_pr_11_relations_are_loaded_as_configured(tmp_path: Path, config: LoadConfig, loaded: bool) -> None:
    async def main() -> None:
        source = await sales_with_customers(tmp_path)
        async with Bench() as bench, contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(source.close)
            grouping = Grouping(group_by=("customer.name",), aggregations=("sum",), fields=("amount",))
            _, stream = await bench.pipeline.start_pipeline(
                source=source,
                query=Query(table="sales", relations=(CUSTOMER,)),
                load_config=config,
                grouped_aggregations=[grouping] if loaded else [],
            )

            records = [record async for record in stream]

            assert [record["id"] for record in records] == list(range(1, 11))
            assert [record.get("customer") for record in records[:2]] == (
                [{"name": "Customer 1"}, {"name": "Customer 2"}] if loaded else [None, None]
            )
            if loaded:
                (groups,) = bench.pipeline.get_aggregation_snapshot(stream.stream_id).grouped_aggregations
                assert groups.groups["Customer 0"] == {"sum": {"amount": 180}}

    run(main())


def test_pr_11_a_failing_load_of_relations_is_tried_again_without_fetching_the_chunk_anew() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source, failures = FakeSource(sample_frame(100)), [QueryError("busy"), QueryError("busy")]
            stream = await bench.start(source)

            async def relate(frame: pl.DataFrame) -> pl.DataFrame:
                if failures:
                    raise failures.pop()
                return frame.with_columns(customer=pl.lit("c"))

            stream._producer._relate = relate
            taking = asyncio.create_task(stream.take(1))
            await bench.manual.advance(3)

            assert (await taking)[0]["customer"] == "c"
            assert source.queries == [(0, 1000)]

    run(main())


@pytest.mark.parametrize(("enable_cache", "queries"), [(True, [(0, 100), (100, 100)]), (False, [(0, 100), (100, 100)] * 2)])
def test_pr_17_18_the_same_chunk_twice_is_one_query_with_the_cache_and_two_without(
    enable_cache: bool, queries: list[tuple[int, int]]
) -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(200))
            seen = []
            for _ in range(2):
                stream = await bench.start(source, chunk_size=100, enable_cache=enable_cache)
                seen.append([record["id"] async for record in stream])

            assert seen == [list(range(1, 201))] * 2
            assert source.queries == queries
            assert bench.pipeline.cache.stats().hits == (2 if enable_cache else 0)

    run(main())


def test_producer_an_empty_source_ends_at_once() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(FakeSource(sample_frame(0), counted=False))

            assert [record async for record in stream] == []
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.COMPLETED

    run(main())


def test_producer_an_option_that_makes_no_sense_is_refused() -> None:
    async def main() -> None:
        async with Bench() as bench:
            for options in ({"chunk_size": 0}, {"max_retries": -1}, {"retry_delay_s": 0}, {"pager": "random"}, {"chunksize": 5}):
                with pytest.raises(UsageError):
                    await bench.start(sample_records(1), **options)

            assert bench.pipeline.list_pipelines() == []

    run(main())
