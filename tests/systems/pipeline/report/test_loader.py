"""IN-15 and IN-16: a report is loaded into a document: bound, ordered, shaped, streamed, and ended whatever happens."""

from __future__ import annotations

import asyncio
import csv
import datetime
import json
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline import Pipeline, Status
from floodmark.systems.pipeline.aggregate import Grouping
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.report import Aggregate, Band, Field, Group, Parameter, Report, ReportError
from floodmark.systems.pipeline.report.bridge import TooManyGroupsError
from floodmark.systems.pipeline.report.feed import ShapedSource
from floodmark.systems.pipeline.report.loader import (
    Document,
    QueryBuildError,
    ReportTimeoutError,
    Strategy,
    StreamingPipelineError,
    load,
    query_for,
    stream_for_typst,
)
from floodmark.systems.pipeline.report.shape import Shape
from floodmark.systems.pipeline.source import source_from
from floodmark.systems.pipeline.source.base import Source
from floodmark.systems.pipeline.source.iterable import IterableSource
from floodmark.systems.pipeline.source.testing import Faults, FaultySource
from tests.systems.pipeline.report.declared import sales, sales_report


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """1,000 sales in a SQLite file, in no particular order, with amounts and dates as text."""
    path = tmp_path / "sales.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE sales (id INTEGER PRIMARY KEY, territory, customer, amount, quantity INTEGER, price REAL, sold_at)"
        )
        rows = (
            sales(1000)
            .with_columns(pl.col("amount").cast(pl.String), pl.col("sold_at").dt.to_string())
            .sample(fraction=1, shuffle=True, seed=3)
        )
        connection.executemany("INSERT INTO sales VALUES (NULL, ?, ?, ?, ?, ?, ?)", rows.rows())
    connection.close()
    return path


async def read(document: Document) -> pl.DataFrame:
    """All rows of a document, which ends."""
    async with document:
        return pl.concat([rows async for rows in document.batches()])


def test_in_15_loader_streams_a_report_in_group_order(database: Path) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            report = sales_report(groups=(Group(level=1, name="territory", sort="desc"), Group(level=2, name="customer")))

            document = await stream_for_typst(report, source=f"sqlite:///{database}", pipeline=pipeline)
            rows = await read(document)

            assert len(rows) == 1000
            assert rows.select("territory", "customer").rows() == sorted(
                rows.select("territory", "customer").rows(), key=lambda row: (-int(row[0][1:]), row[1])
            )
            assert rows.schema["amount"] == pl.Decimal(38, 6)
            assert sum(rows["amount"]) == Decimal(sum(range(1000))) / 4
            assert len(document.stream_id) == 22
            assert pipeline.get_pipeline_info(document.stream_id).status is Status.COMPLETED

    asyncio.run(scenario())


def test_in_15_loader_aggregates_what_the_report_declares_though_the_source_holds_text(database: Path) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            bands = (
                Band(kind="group_footer", group_level=1, elements=(Aggregate(function="sum", source="amount * quantity"),)),
                Band(kind="summary", elements=(Aggregate(function="sum", source="amount"),)),
            )
            report = sales_report(groups=(Group(level=1, name="territory"),), bands=bands)

            document = await stream_for_typst(report, source=str(database), pipeline=pipeline, parameters={"since": "2026-01-01"})
            rows = await read(document)
            snapshot = document.snapshot()

            assert snapshot.stable
            assert snapshot.aggregations["sum"]["amount"] == sum(rows["amount"])
            assert ":since" not in snapshot.aggregations["sum"]
            expected = {
                name: sum(amount * quantity for amount, quantity in own.select("amount", "quantity").rows())
                for (name,), own in rows.group_by("territory")
            }
            assert {name: group["sum"]["amount * quantity"] for name, group in snapshot.grouped_aggregations[0].groups.items()} == expected
            assert rows[":since"].unique().to_list() == [datetime.date(2026, 1, 1)]

    asyncio.run(scenario())


def test_in_16_document_data_matches_the_template_contract(database: Path) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            report = sales_report(title="Sales of the year", author="Ada")

            document = await stream_for_typst(report, source=str(database), pipeline=pipeline, parameters={"since": "2026-01-01"})
            rows = await read(document)
            data = document.data()

            assert list(data) == ["config", "variables", "groups", "metadata", "charts"]
            assert data["config"]["title"] == "Sales of the year"
            assert data["config"]["parameters"] == {"since": datetime.date(2026, 1, 1)}
            assert data["config"]["fields"]["amount"] == "money"
            assert data["variables"] == {"total": {"type": "sum", "expression": "amount", "reset_on": "report"}}
            assert [(group["name"], group["column"], group["group_count"]) for group in data["groups"]] == [
                ("territory", "territory", 4),
                ("customer", "customer", 20),
            ]
            assert data["metadata"]["record_count"] == len(rows) == 1000
            assert data["metadata"]["skipped_count"] == 0
            assert data["metadata"]["status"] == "completed"
            assert data["metadata"]["stream_id"] == document.stream_id
            assert json.loads(json.dumps(data, default=str))["charts"] == []
            assert set(rows.columns) == {*report.fields, ":since"}

    asyncio.run(scenario())


def test_loader_leaves_out_counts_and_tells_rows_it_cannot_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "sales.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("territory", "quantity"))
            writer.writerows(("north", "many" if index % 10 == 0 else index) for index in range(2500))
        report = Report(name="r", query=Query(), fields={"territory": str, "quantity": int})
        async with Pipeline() as pipeline:
            document = await stream_for_typst(report, source=str(path), pipeline=pipeline)
            rows = await read(document)

            assert len(rows) == 2250
            assert document.skipped_count == 250
            assert document.skipped_reason == "quantity: cannot read 'many' as integer"
            assert document.snapshot().aggregations["sum"]["quantity"] == sum(rows["quantity"])

    asyncio.run(scenario())


def test_loader_reads_on_where_a_failing_query_has_interrupted_a_chunk() -> None:
    async def scenario() -> None:
        rows = sales(3000).with_columns(
            pl.when(pl.col("quantity") == 3).then(pl.lit("bad")).otherwise(pl.col("quantity").cast(pl.String)).alias("quantity")
        )
        source = FaultySource(IterableSource([rows]), Faults(fail_queries=frozenset({1, 4, 5})))
        async with Pipeline() as pipeline:
            shaped = ShapedSource(source, Shape(sales_report(), {}, at_source=True), Query())
            _, stream = await pipeline.start_pipeline(source=shaped, query=Query(), chunk_size=500, retry_delay_s=0.001)
            kept = pl.concat([batch.frame() async for batch in stream.batches()])

            await source.close()

            assert kept.select("sold_at").equals(rows.filter(pl.col("quantity") != "bad").select("sold_at"))
            assert sum(asked.rows is None for asked in source.asked) == 3

    asyncio.run(scenario())


def test_shaped_cursor_gives_full_chunks_up_to_the_end_and_seeks_back() -> None:
    async def scenario() -> None:
        rows = sales(100).with_columns(
            pl.when(pl.col("quantity") == 3).then(pl.lit("bad")).otherwise(pl.col("quantity").cast(pl.String)).alias("quantity")
        )
        readable_count = len(rows.filter(pl.col("quantity") != "bad"))
        inner = IterableSource([rows], name="rows")
        source = ShapedSource(inner, Shape(sales_report(), {}, at_source=True), Query())
        cursor = await source.open(Query())

        chunks = []
        while len(chunk := await cursor.fetch(30)) == 30:
            chunks.append(chunk)
        chunks.append(chunk)
        await cursor.close()
        await source.close()
        await inner.close()

        assert [len(chunk) for chunk in chunks] == [30, 30, readable_count - 60]
        assert source.name.startswith("rows as sales-")
        assert cursor.exhausted

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"sinse": "2026-01-01"}}, "unknown parameter 'sinse'; did you mean 'since'"),
        ({"parameters": {"since": "soon"}}, "parameter 'since': cannot read 'soon' as date"),
        ({"report": "slaes", "reports": {"sales": sales_report()}}, "there is no report 'slaes'; there are: sales; did you mean 'sales'"),
        ({"chunksize": 10}, "no option 'chunksize'; did you mean 'chunk_size'"),
        ({"source": None}, "no source: give one"),
    ],
)
def test_loader_mistakes_are_told_before_anything_starts(changes: dict[str, Any], message: str) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            given: dict[str, Any] = {"report": sales_report(), "source": IterableSource([sales(1)]), "pipeline": pipeline} | changes
            with pytest.raises(ReportError, match=message):
                await stream_for_typst(given.pop("report"), **given)
            assert pipeline.list_pipelines() == []

    asyncio.run(scenario())


def test_loader_required_parameter_that_is_missing_is_refused() -> None:
    async def scenario() -> None:
        report = sales_report(parameters=(Parameter(name="year", type="integer", required=True),))
        with pytest.raises(ReportError, match="parameter 'year': is required"):
            await stream_for_typst(report, source=IterableSource([sales(1)]))

    asyncio.run(scenario())


def test_loader_refuses_groups_beyond_the_memory_before_anything_starts() -> None:
    async def scenario() -> None:
        groups = (Group(level=1, name="territory", expected_count=200_000),)
        async with Pipeline() as pipeline:
            with pytest.raises(TooManyGroupsError, match="too_many_groups"):
                await stream_for_typst(
                    sales_report(groups=groups, bands=(), max_groups=10**6), source=IterableSource([sales(1)]), pipeline=pipeline
                )
            assert pipeline.list_pipelines() == []

    asyncio.run(scenario())


def test_loader_query_that_the_source_refuses_is_told_as_such(database: Path) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            with pytest.raises(QueryBuildError, match=r"report 'sales'.*slaes") as caught:
                await stream_for_typst(sales_report(query=Query(table="slaes")), source=str(database), pipeline=pipeline)
            assert caught.value.kind == "query_build_failed"
            assert isinstance(caught.value, UsageError)

    asyncio.run(scenario())


class BrokenSource:
    """A source that cannot be opened."""

    name = "broken"

    async def open(self, query: Query, *, pager: str = "keyset") -> Any:
        raise ConnectionRefusedError("nobody there")

    async def close(self) -> None:
        return None


def test_loader_stream_that_cannot_start_is_told_as_such() -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            with pytest.raises(StreamingPipelineError, match="nobody there"):
                await stream_for_typst(sales_report(), source=BrokenSource(), pipeline=pipeline)

    asyncio.run(scenario())


def test_loader_reading_past_its_limit_ends_the_stream() -> None:
    async def scenario() -> None:
        source = FaultySource(IterableSource([sales(10)]), Faults(hang_queries=frozenset({0})))
        async with Pipeline() as pipeline:
            document = await stream_for_typst(sales_report(presorted=True), source=source, pipeline=pipeline, timeout_s=0.05)

            with pytest.raises(ReportTimeoutError, match=r"within 0.05 s"):
                await read(document)

            assert pipeline.get_pipeline_info(document.stream_id).status is Status.STOPPED
            assert source.open_count == 0
            await source.close()

    asyncio.run(scenario())


def test_document_left_early_stops_its_stream(database: Path) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            document = await stream_for_typst(sales_report(), source=str(database), pipeline=pipeline, chunk_size=100, buffer_size=100)
            async with document:
                async for _ in document.batches():
                    break

            assert pipeline.get_pipeline_info(document.stream_id).status is Status.STOPPED

    asyncio.run(scenario())


def test_loader_options_override_what_the_report_would_aggregate(database: Path) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            own = (Grouping(group_by=("customer",), aggregations=("count",)),)
            document = await stream_for_typst(
                sales_report(), source=str(database), pipeline=pipeline, aggregations=("max",), grouped_aggregations=own
            )
            await read(document)
            snapshot = document.snapshot()

            assert list(snapshot.aggregations) == ["max"]
            assert [grouping.group_by for grouping in snapshot.grouped_aggregations] == [("customer",)]

    asyncio.run(scenario())


def test_loader_loads_relationships_behind_the_source(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "related.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, amount TEXT, buyer_id INTEGER)")
            connection.execute("CREATE TABLE buyers (id INTEGER PRIMARY KEY, name TEXT)")
            connection.executemany("INSERT INTO buyers VALUES (?, ?)", ((1, "Ada"), (2, "Grace")))
            connection.executemany("INSERT INTO sales VALUES (NULL, ?, ?)", ((str(index), 1 + index // 50) for index in range(100)))
        connection.close()
        relation = Relation(name="buyer", kind="belongs_to", table="buyers", local=("buyer_id",), foreign=("id",))
        report = Report(
            name="r",
            query=Query(table="sales", order_by=("buyer_id",), relations=(relation,)),
            fields={"amount": "money", "buyer.name": str},
            groups=(Group(level=1, name="buyer_name", expression="buyer.name"),),
            bands=(Band(kind="detail", elements=(Field(source="buyer.name"), Field(source="amount"))),),
        )
        async with Pipeline() as pipeline:
            document = await stream_for_typst(report, source=str(path), pipeline=pipeline)
            rows = await read(document)

            assert rows["buyer_name"].to_list() == ["Ada"] * 50 + ["Grace"] * 50
            groups = document.snapshot().grouped_aggregations[0].groups
            assert {name: values["sum"]["amount"] for name, values in groups.items()} == {"Ada": 1225, "Grace": 3725}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "strategy", "count"),
    [
        ({"bands": (Band(kind="summary", elements=(Aggregate(function="count"),)),)}, Strategy.AGGREGATION, 100),
        ({"query": Query(table="sales", limit=10_000)}, Strategy.MEMORY, 1000),
        ({"query": Query(table="sales", limit=10_001)}, Strategy.STREAMING, None),
        ({}, Strategy.STREAMING, None),
    ],
)
def test_load_chooses_how_to_read_by_the_report(database: Path, changes: dict[str, Any], strategy: Strategy, count: int | None) -> None:
    async def scenario() -> None:
        async with Pipeline() as pipeline:
            loaded = await load(sales_report(**changes), source=str(database), pipeline=pipeline)

            assert loaded.strategy is strategy
            if loaded.records is None:
                assert count is None
                assert len(await read(loaded.document)) == 1000
            else:
                assert len(loaded.records) == count
                assert loaded.document.records_count == 1000
                assert loaded.document.snapshot().stable

    asyncio.run(scenario())


def test_load_strategy_may_be_told_and_of_no_rows_there_is_nothing(database: Path) -> None:
    async def scenario() -> None:
        report = sales_report(query=Query(table="sales", where="territory = 'nowhere'"))
        async with Pipeline() as pipeline:
            loaded = await load("sales", reports={"sales": report}, source=str(database), pipeline=pipeline, strategy="memory")

            assert loaded.records is not None
            assert len(loaded.records) == 0

    asyncio.run(scenario())


def test_query_for_binds_parameters_and_orders_by_group_first() -> None:
    query = Query(table="sales", where="sold_at >= :since AND kind = :kind", parameters={"kind": "x"}, order_by=("-amount",))
    report = sales_report(query=query, groups=(Group(level=1, name="territory", sort="desc"),), bands=())

    made = query_for(report, {"since": datetime.date(2026, 1, 1)})

    assert made.order_by == ("-territory", "-amount")
    assert made.parameters == {"kind": "x", "since": datetime.date(2026, 1, 1)}
    assert query_for(sales_report(presorted=True), {}).order_by == ()


def test_loader_source_given_as_an_object_stays_open(database: Path) -> None:
    async def scenario() -> None:
        source: Source = source_from(str(database))
        async with Pipeline() as pipeline:
            counts = [len(await read(await stream_for_typst(sales_report(), source=source, pipeline=pipeline))) for _ in range(2)]
        await source.close()

        assert counts == [1000, 1000]

    asyncio.run(scenario())
