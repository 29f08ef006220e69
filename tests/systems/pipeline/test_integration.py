"""Whole streams, from a real database to whoever reads them (IN-01 to IN-25).

IN-15 and IN-16, the loader, stand in report/test_loader.py. Expected figures are worked out apart, in plain Python, from how rows are made.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Coroutine, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from floodmark.core.telemetry import TelemetryBus
from floodmark.systems.pipeline import Grouping, Pipeline, PipelineSettings, Query, Relation, Status
from floodmark.systems.pipeline.errors import ProducerStartError, QueryRefusedError, StreamStoppedError
from floodmark.systems.pipeline.report import Aggregate, Band, Field, Group, Report
from floodmark.systems.pipeline.report.loader import stream_for_typst
from floodmark.systems.pipeline.source.sqlite import SqliteSource
from floodmark.systems.pipeline.source.testing import FaultySource
from tests.systems.pipeline.fixtures import Bench, FakeSource, Journal, consume_with_monitoring, sample_frame, until

ROWS = 100_000
TERRITORIES = ("east", "north", "south", "west")
CUSTOMERS = 40


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sales 1 to 100,000 in SQLite, 40 customers in 4 territories, and a note or two for every third sale."""
    path = tmp_path_factory.mktemp("data") / "sales.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, customer_id INTEGER, territory TEXT, amount INTEGER, price REAL)")
        connection.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, sale_id INTEGER, text TEXT)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?)", map(sale, range(1, ROWS + 1)))
        connection.executemany("INSERT INTO customers VALUES (?, ?)", [(number, f"Customer {number}") for number in range(CUSTOMERS)])
        notes = [(number, f"note {number}-{index}") for number in range(3, 3001, 3) for index in range(number % 2 + 1)]
        connection.executemany("INSERT INTO notes VALUES (NULL, ?, ?)", notes)
        connection.execute("CREATE INDEX notes_of ON notes (sale_id)")
    connection.close()
    return path


def sale(number: int) -> tuple[int, int, str, int, float]:
    """The columns of one sale; a customer belongs to one territory."""
    customer = number % CUSTOMERS
    return number, customer, TERRITORIES[customer % 4], number % 100, number * 0.25


def first(count: int) -> Query:
    return Query(table="sales", limit=count)


def by_territory(count: int) -> dict[str, dict[str, Any]]:
    """Sum and count of amounts, worked out row by row."""
    expected: dict[str, dict[str, Any]] = {}
    for _, _, territory, amount, _ in map(sale, range(1, count + 1)):
        entry = expected.setdefault(territory, {"sum": {"amount": 0}, "count": 0})
        entry["sum"]["amount"] += amount
        entry["count"] += 1
    return expected


def sales_report(**changes: Any) -> Report:
    """A report of the first 1,000 sales by territory and customer, which sums and counts at every level."""
    totals = (Aggregate(function="sum", source="amount"), Aggregate(function="count"))
    whole: dict[str, Any] = {
        "name": "sales",
        "query": Query(table="sales", where="id <= 1000"),  # not a limit, which counts rows in group order
        "fields": {"territory": str, "customer_id": int, "amount": int},
        "groups": (Group(level=1, name="territory"), Group(level=2, name="customer_id")),
        "bands": (
            Band(kind="detail", elements=(Field(source="amount"),)),
            Band(kind="group_footer", group_level=2, elements=totals),
            Band(kind="group_footer", group_level=1, elements=totals),
            Band(kind="summary", elements=totals),
        ),
    }
    return Report(**(whole | changes))


async def aggregated(report: Report, database: Path) -> Any:
    """Read a report to its end and return what was aggregated."""
    async with Pipeline() as pipeline, await stream_for_typst(report, source=str(database), pipeline=pipeline) as document:
        async for _ in document.batches():
            pass
        return document.snapshot()


def test_in_01_full_stream_gives_all_1000_records(database: Path) -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            stream_id, stream = await pipeline.start_pipeline(source=str(database), query=first(1000))

            records = [record async for record in stream]

            assert [tuple(record.values()) for record in records] == [sale(number) for number in range(1, 1001)]
            assert pipeline.get_pipeline_info(stream_id).status is Status.COMPLETED

    run(main())


def test_in_02_transformation_converts_mixed_types() -> None:
    rows = [
        {"id": 1, "at": datetime(2026, 1, 2, 3, 4, 5), "price": Decimal("1.005"), "note": None, "customer": {"name": "Ada"}},
        {"id": 2, "at": datetime(2026, 1, 3), "price": Decimal("-2.50"), "note": "x", "customer": None},
    ]

    async def main() -> None:
        async with Pipeline() as pipeline:
            _, stream = await pipeline.start_pipeline(
                source=pl.DataFrame(rows),
                query=Query(),
                conversion=True,
                transformer=lambda record: record | {"twice": record["price"] * 2},
            )

            records = [dict(record) async for record in stream]

            assert records == [
                {"id": 1, "at": "2026-01-02T03:04:05", "price": 1.01, "note": "", "customer_name": "Ada", "twice": 2.02},
                {"id": 2, "at": "2026-01-03T00:00:00", "price": -2.5, "note": "x", "customer_name": "", "twice": -5.0},
            ]

    run(main())


def test_in_03_relationships_belongs_to_and_has_many_come_with_every_record(database: Path) -> None:
    relations = (
        Relation(name="customer", kind="belongs_to", table="customers", local=("customer_id",), foreign=("id",), columns=("name",)),
        Relation(name="notes", kind="has_many", table="notes", local=("id",), foreign=("sale_id",), columns=("text",), order_by=("id",)),
    )

    async def main() -> None:
        async with Pipeline() as pipeline:
            query = Query(table="sales", limit=300, relations=relations)
            _, stream = await pipeline.start_pipeline(source=str(database), query=query, chunk_size=100)

            records = [record async for record in stream]

            assert len(records) == 300
            for record in records:
                number = record["id"]
                assert record["customer"] == {"name": f"Customer {number % CUSTOMERS}"}
                notes = [f"note {number}-{index}" for index in range(number % 2 + 1)] if number % 3 == 0 else []
                assert [note["text"] for note in record["notes"]] == notes

    run(main())


@pytest.mark.parametrize("pager", ["keyset", "offset"])
def test_in_04_order_is_kept_through_every_stage(database: Path, pager: str) -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            query = Query(table="sales", order_by=("-amount", "territory"), limit=5000)
            _, stream = await pipeline.start_pipeline(source=str(database), query=query, pager=pager, chunk_size=333, transformer=dict)

            found = [(-record["amount"], record["territory"], record["id"]) async for record in stream]

            assert found == sorted((-amount, territory, number) for number, _, territory, amount, _ in map(sale, range(1, ROWS + 1)))[:5000]

    run(main())


@pytest.mark.alone
def test_in_05_ten_thousand_records_stay_within_half_as_much_memory_again(database: Path) -> None:
    async def main() -> None:
        baseline_bytes, peak_bytes, count, _ = await rss_of(database, 10_000)

        assert count == 10_000
        assert peak_bytes < 1.5 * baseline_bytes

    run(main())


async def rss_of(database: Path, count: int) -> tuple[int, int, int, int]:
    """Stream so many records: resident memory before, the most seen meanwhile, records, the most that the stream held."""
    process = psutil.Process()
    async with Pipeline() as pipeline:
        _, warm_up = await pipeline.start_pipeline(source=str(database), query=first(1000))
        _ = [record async for record in warm_up]
        baseline_bytes = peak_bytes = process.memory_info().rss
        _, stream = await pipeline.start_pipeline(source=str(database), query=first(count))
        seen_count = 0
        async for batch in stream.batches():
            seen_count += len(batch)
            peak_bytes = max(peak_bytes, process.memory_info().rss)
        return baseline_bytes, peak_bytes, seen_count, stream.figures().held_bytes_max


@pytest.mark.alone
def test_in_06_hundred_thousand_records_come_at_more_than_1000_per_second(database: Path) -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            _, stream = await pipeline.start_pipeline(source=str(database), query="sales", aggregations=["sum"])

            consumed = await consume_with_monitoring(stream)

            assert len(consumed.records) == ROWS
            assert consumed.records_per_second > 1000

    run(main())


def test_in_07_a_million_records_are_aggregated_exactly() -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            grouping = Grouping(group_by=("category",), aggregations=("sum", "count"), fields=("value",))
            stream_id, stream = await pipeline.start_pipeline(
                source=lambda: (sample_frame(100_000, groups=7, start=start) for start in range(1, 1_000_001, 100_000)),
                query=Query(),
                aggregations=["sum", "count", "min", "max"],
                grouped_aggregations=[grouping],
                chunk_size=10_000,
            )

            ids = [batch.frame().item(0, "id") async for batch in stream.batches()]

            snapshot = pipeline.get_aggregation_snapshot(stream_id)
            assert ids == list(range(1, 1_000_001, 10_000))
            assert snapshot.aggregations["count"] == 1_000_000
            assert snapshot.aggregations["sum"]["value"] == 10 * 1_000_000 * 1_000_001 // 2
            assert (snapshot.aggregations["min"]["id"], snapshot.aggregations["max"]["id"]) == (1, 1_000_000)
            assert snapshot.grouped_aggregations[0].groups["group_3"] == {
                "sum": {"value": sum(range(30, 10_000_001, 70))},
                "count": len(range(3, 1_000_001, 7)),
            }

    run(main())


def test_in_08_five_reports_at_once_all_finish(database: Path) -> None:
    async def main() -> None:
        snapshots = await asyncio.gather(*(aggregated(sales_report(name=f"report_{number}"), database) for number in range(5)))

        expected = by_territory(1000)
        for snapshot in snapshots:
            assert snapshot.progress.status is Status.COMPLETED
            assert snapshot.aggregations["count"] == 1000
            assert {key: figures["sum"] for key, figures in snapshot.grouped_aggregations[0].groups.items()} == {
                key: figures["sum"] for key, figures in expected.items()
            }

    run(main())


def test_in_09_two_streams_of_different_settings_do_not_mix(database: Path) -> None:
    async def main() -> None:
        async with Pipeline() as pipeline, asyncio.TaskGroup() as group:
            source = str(database)
            left_id, left = await pipeline.start_pipeline(source=source, query=first(2000), aggregations=["sum"], chunk_size=50)
            right_id, right = await pipeline.start_pipeline(
                source=source,
                query=Query(table="sales", where="territory = 'west'", limit=500),
                aggregations=["count"],
                transformer=lambda record: {"name": record["territory"].upper()},
            )

            lefts = group.create_task(consume_with_monitoring(left))
            rights = group.create_task(consume_with_monitoring(right))
            await asyncio.wait((lefts, rights))

            assert len(lefts.result().records) == 2000
            assert rights.result().records == [{"name": "WEST"}] * 500
            assert list(pipeline.get_aggregation_snapshot(left_id).aggregations) == ["sum"]
            assert pipeline.get_aggregation_snapshot(left_id).aggregations["sum"]["amount"] == sum(n % 100 for n in range(1, 2001))
            assert pipeline.get_aggregation_snapshot(right_id).aggregations == {"count": 500}

    run(main())


def test_in_10_shared_memory_pressure_pauses_some_and_all_finish_in_the_end() -> None:
    async def main() -> None:
        frame = sample_frame(3000)
        chunk_bytes = int(frame.head(1000).estimated_size())
        async with Bench(settings=PipelineSettings(memory_total_bytes=int(chunk_bytes * 2.5))) as bench:
            streams = [await bench.start(frame, stall_timeout_s=3600) for _ in range(4)]
            for stream in streams:
                await stream.take(1)

            await bench.manual.advance(2)
            paused = [stream for stream in streams if bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.PAUSED]
            assert 1 <= len(paused) < 4
            readers = [asyncio.create_task(consume_with_monitoring(stream)) for stream in streams]
            for _ in range(100):
                if all(reader.done() for reader in readers):
                    break
                await bench.manual.advance(1)

            assert [len(reader.result().records) for reader in readers] == [2999] * 4
            reasons = {event.metadata["reason"] for event in bench.journal.of("intervention")}
            assert reasons == {"memory_total_exceeded"}
            assert {info.status for info in bench.pipeline.list_pipelines()} == {Status.COMPLETED}

    run(main())


def test_in_11_report_with_sum_and_count_is_totalled(database: Path) -> None:
    async def main() -> None:
        snapshot = await aggregated(sales_report(groups=(), bands=sales_report().bands[::3]), database)

        assert snapshot.aggregations["count"] == 1000
        assert snapshot.aggregations["sum"]["amount"] == sum(number % 100 for number in range(1, 1001))
        assert snapshot.stable

    run(main())


def test_in_12_report_by_territory_is_totalled_per_territory(database: Path) -> None:
    async def main() -> None:
        report = sales_report(groups=(Group(level=1, name="territory"),), bands=(*sales_report().bands[:1], *sales_report().bands[2:]))

        snapshot = await aggregated(report, database)

        (grouping,) = snapshot.grouped_aggregations
        assert grouping.groups == by_territory(1000)
        assert list(grouping.groups) == sorted(TERRITORIES)

    run(main())


def test_in_13_report_of_two_levels_is_right_at_every_level(database: Path) -> None:
    async def main() -> None:
        snapshot = await aggregated(sales_report(), database)

        outer, inner = snapshot.grouped_aggregations
        assert (outer.level, inner.level) == (1, 2)
        assert outer.groups == by_territory(1000)
        assert len(inner.groups) == CUSTOMERS
        for (territory, customer), figures in inner.groups.items():
            numbers = [number for number in range(1, 1001) if number % CUSTOMERS == customer]
            assert territory == TERRITORIES[customer % 4]
            assert figures == {"sum": {"amount": sum(number % 100 for number in numbers)}, "count": len(numbers)}

    run(main())


def test_in_14_report_with_max_groups_stops_at_100_of_150(database: Path) -> None:
    async def main() -> None:
        report = sales_report(
            fields={"id": int, "amount": int},
            query=Query(sql="SELECT id % 150 AS id, amount FROM sales WHERE id <= 1500", order_by=("id",)),
            groups=(Group(level=1, name="id"),),
            bands=(*sales_report().bands[:1], *sales_report().bands[2:]),
            max_groups=100,
        )

        snapshot = await aggregated(report, database)

        (grouping,) = snapshot.grouped_aggregations
        assert (grouping.group_count, len(grouping.groups), grouping.max_groups) == (100, 100, 100)
        assert grouping.rejected == 50 * 10
        assert snapshot.aggregations["count"] == 1500  # what is rejected from a grouping is in the stream all the same

    run(main())


def test_in_17_cancelled_after_500_records_everything_is_released(database: Path) -> None:
    async def main() -> None:
        source = SqliteSource(str(database))
        tasks_before = asyncio.all_tasks()
        async with Pipeline() as pipeline:
            stream_id, stream = await pipeline.start_pipeline(source=source, query="sales")
            taken = await stream.take(500)

            info = await pipeline.stop(stream_id)

            assert len(taken) == 500
            assert info.status is Status.STOPPED
            assert stream.figures().held_bytes == 0
            assert asyncio.all_tasks() == tasks_before
        await source.close()

    run(main())


def test_in_17_reader_cancelled_midway_leaves_nothing_running(database: Path) -> None:
    async def main() -> None:
        tasks_before = asyncio.all_tasks()
        async with Pipeline() as pipeline:
            stream_id, stream = await pipeline.start_pipeline(source=str(database), query="sales")

            async def read() -> None:
                async with stream:
                    async for _ in stream:
                        pass

            reader = asyncio.create_task(read())
            await until(lambda: stream.figures().delivered_count >= 500)
            reader.cancel()
            await asyncio.wait((reader,))

            assert reader.cancelled()
            assert pipeline.get_pipeline_info(stream_id).status is Status.STOPPED
            assert asyncio.all_tasks() == tasks_before

    run(main())


def test_in_18_memory_is_the_same_for_1k_10k_and_100k(database: Path) -> None:
    async def main() -> None:
        seen = {count: await rss_of(database, count) for count in (1000, 10_000, 100_000)}

        for count, (baseline_bytes, peak_bytes, records_count, _) in seen.items():
            assert records_count == count
            assert peak_bytes < 1.5 * baseline_bytes
        assert seen[100_000][3] < 1.1 * seen[10_000][3]

    run(main())


@pytest.mark.alone
def test_in_19_throughput_of_ten_thousand_is_more_than_1000_per_second(database: Path) -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            _, stream = await pipeline.start_pipeline(source=str(database), query=first(10_000), transformer=dict)

            consumed = await consume_with_monitoring(stream)

            assert len(consumed.records) == 10_000
            assert consumed.records_per_second > 1000

    run(main())


@pytest.mark.alone
def test_in_20_first_record_comes_within_100_ms(database: Path) -> None:
    async def first_record_s() -> float:
        async with Pipeline() as pipeline:
            started_s = time.perf_counter()
            _, stream = await pipeline.start_pipeline(source=str(database), query="sales")
            async with stream:
                record = await anext(stream)
                elapsed_s = time.perf_counter() - started_s
                assert record["id"] == 1
                return elapsed_s

    async def main() -> None:
        assert min([await first_record_s() for _ in range(5)]) < 0.1

    run(main())


@pytest.mark.parametrize("query", ["no_such_table", "SELECT no_such_column FROM sales", "SELECT FROM WHERE"])
def test_in_21_bad_query_is_told_at_the_start_and_leaves_nothing(database: Path, query: str) -> None:
    async def main() -> None:
        tasks_before = asyncio.all_tasks()
        async with Pipeline() as pipeline:
            with pytest.raises(QueryRefusedError):
                await pipeline.start_pipeline(source=str(database), query=query)

            (info,) = pipeline.list_pipelines()
            assert info.status is Status.FAILED
            assert "QueryRefusedError" in info.reason
            assert asyncio.all_tasks() == tasks_before

    run(main())


def test_in_21_source_that_cannot_be_opened_is_told_at_the_start() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(1))
            source.refusal = OSError("no route to host")

            with pytest.raises(ProducerStartError, match="no route to host"):
                await bench.start(source)

            assert [info.status for info in bench.pipeline.list_pipelines()] == [Status.FAILED]

    run(main())


def test_in_22_bad_records_are_skipped_and_counted(database: Path) -> None:
    def halved(record: dict[str, Any]) -> Mapping[str, Any]:
        return {"id": record["id"], "inverse": 1 / record["amount"]}  # 10 of 1,000 have an amount of 0

    async def main() -> None:
        bus = TelemetryBus()
        journal = Journal(bus)
        async with Pipeline(bus=bus) as pipeline:
            stream_id, stream = await pipeline.start_pipeline(source=str(database), query=first(1000), transformer=halved)

            ids = [record["id"] async for record in stream]

            assert ids == [number for number in range(1, 1001) if number % 100]
            assert stream.skipped_count == 10
            assert sum(event.measurements["records_failed"] for event in journal.of("producer_consumer.batch_transformed")) == 10
            assert pipeline.get_pipeline_info(stream_id).status is Status.COMPLETED

    run(main())


def test_in_23_consumer_that_fails_on_a_record_does_not_hurt_the_pipeline(database: Path) -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            other_id, other = await pipeline.start_pipeline(source=str(database), query=first(3000))
            stream_id, stream = await pipeline.start_pipeline(source=str(database), query=first(3000))
            seen: list[int] = []

            async def consume() -> None:
                async for record in stream:
                    seen.append(record["id"])
                    _ = 100 // (record["id"] - 700)

            with pytest.raises(ZeroDivisionError):
                await consume()
            rest = [record["id"] async for record in stream]  # the stream is still there, behind the record that was too much

            assert seen == list(range(1, 701))
            assert rest == list(range(701, 3001))
            assert len([record async for record in other]) == 3000
            assert {pipeline.get_pipeline_info(name).status for name in (other_id, stream_id)} == {Status.COMPLETED}

    run(main())


def test_in_24_second_run_of_a_query_reads_from_the_cache(database: Path) -> None:
    async def main() -> None:
        inner = SqliteSource(str(database))
        source = FaultySource(inner)
        async with Pipeline() as pipeline:
            options: dict[str, Any] = {"source": source, "query": first(2500), "aggregations": ["sum"]}
            first_id, one = await pipeline.start_pipeline(**options)
            records = [record async for record in one]
            asked_count = len(source.asked)

            second_id, two = await pipeline.start_pipeline(**options)
            again = [record async for record in two]

            assert again == records
            assert len(records) == 2500
            assert asked_count > 0
            assert len(source.asked) == asked_count
            assert pipeline.cache.stats().hits >= 3
            first_totals, second_totals = (pipeline.get_aggregation_snapshot(name).aggregations for name in (first_id, second_id))
            assert first_totals == second_totals
        await inner.close()

    run(main())


def test_in_25_stop_during_a_pause_ends_the_stream_and_tells_its_reader(database: Path) -> None:
    async def main() -> None:
        tasks_before = asyncio.all_tasks()
        async with Pipeline() as pipeline:
            stream_id, stream = await pipeline.start_pipeline(source=str(database), query="sales", buffer_size=100, max_demand=100)
            await stream.take(100)
            pipeline.pause(stream_id)
            reader = asyncio.create_task(stream.take(1000))
            await until(lambda: stream.figures().asked_count >= 1100)

            info = await pipeline.stop(stream_id)

            assert info.status is Status.STOPPED
            with pytest.raises(StreamStoppedError):
                await reader
            assert asyncio.all_tasks() == tasks_before

    run(main())
