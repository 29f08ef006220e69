"""Try to break streams with what nobody would do on purpose: two readers, sources that hang, and ends at the wrong moment."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Hashable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline import Batch, Pipeline, PipelineSettings, Query, Relation, Status, Stream
from floodmark.systems.pipeline.errors import (
    ProducerStartError,
    QueryError,
    RecoverableError,
    StreamFailedError,
    StreamStoppedError,
    SupervisorNotFoundError,
)
from floodmark.systems.pipeline.source.iterable import IterableSource
from tests.systems.pipeline.fixtures import LIMIT_S, Bench, FakeSource, sample_frame, until


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test within the limit; no task of it may be left."""

    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(limited())


class SlowToOpen(FakeSource):
    """A source that opens when it is told to."""

    def __init__(self, rows: pl.DataFrame) -> None:
        super().__init__(rows)
        self.may_open = asyncio.Event()
        self.is_opening = False

    async def open(self, query: Query, *, pager: str = "keyset") -> Any:
        self.is_opening = True
        await self.may_open.wait()
        return await super().open(query, pager=pager)


# -- several readers of one stream


def test_stream_two_takes_at_once_each_gets_its_count() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(100))

            first, second = await asyncio.gather(stream.take(50), stream.take(50))

            assert (len(first), len(second)) == (50, 50)
            assert sorted(record["id"] for record in first + second) == list(range(1, 101))
            assert stream.figures().asked_count == 100

    run(main)


def test_stream_take_that_is_cancelled_leaves_its_demand_to_the_next() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(100))
            bench.pipeline.pause(stream.stream_id)
            waiting = asyncio.create_task(stream.take(30))
            await until(lambda: stream.figures().asked_count == 30)
            waiting.cancel()
            await asyncio.wait([waiting])
            bench.pipeline.resume(stream.stream_id)

            taken = await stream.take(40)

            assert [record["id"] for record in taken] == list(range(1, 41))
            assert stream.figures().asked_count == 40

    run(main)


@pytest.mark.parametrize("turns", [(0, 0), (1, 3), (5, 0)])
def test_stream_two_iterating_readers_get_every_record_once(turns: tuple[int, int]) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(5000))
            seen: list[int] = []

            async def read(turns_count: int) -> None:
                async for record in stream:
                    seen.append(record["id"])
                    for _ in range(turns_count):
                        await asyncio.sleep(0)

            await asyncio.gather(*map(read, turns))

            assert sorted(seen) == list(range(1, 5001))

    run(main)


def test_stream_iterated_then_taken_then_in_batches_keeps_the_order() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(3000))

            seen = [(await anext(stream))["id"] for _ in range(10)]
            seen += [record["id"] for record in await stream.take(700)]
            seen.append((await anext(stream))["id"])
            async for batch in stream.batches():
                seen += [record["id"] for record in batch.records()]

            assert seen == list(range(1, 3001))

    run(main)


# -- ends at the wrong moment


def test_stream_stopped_while_its_source_opens_is_told_and_closed() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = SlowToOpen(sample_frame(10))
            starting = asyncio.create_task(bench.start(source))
            await until(lambda: source.is_opening)
            (info,) = bench.pipeline.list_pipelines()

            assert (await bench.pipeline.stop(info.stream_id)).status is Status.STOPPED
            source.may_open.set()
            with pytest.raises(StreamStoppedError):
                await starting

            assert bench.pipeline.get_pipeline_info(info.stream_id).status is Status.STOPPED
            assert [cursor.closed for cursor in source.cursors] == [True]
            assert source.queries == []

    run(main)


def test_stream_paused_while_its_source_opens_stays_paused() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = SlowToOpen(sample_frame(10))
            starting = asyncio.create_task(bench.start(source))
            await until(lambda: source.is_opening)
            (info,) = bench.pipeline.list_pipelines()
            bench.pipeline.pause(info.stream_id)
            source.may_open.set()
            stream = await starting

            stream.ask(10)
            await bench.manual.advance(1.0)
            assert source.queries == []
            bench.pipeline.resume(info.stream_id)

            assert len(await stream.take(10)) == 10

    run(main)


def test_pipeline_closed_while_a_source_opens_leaves_nothing() -> None:
    async def main() -> None:
        bench = Bench()
        source = SlowToOpen(sample_frame(10))
        starting = asyncio.create_task(bench.start(source))
        await until(lambda: source.is_opening)

        await bench.pipeline.aclose()
        source.may_open.set()
        with pytest.raises(SupervisorNotFoundError):
            await starting

        assert [cursor.closed for cursor in source.cursors] == [True]
        assert [info.status for info in bench.pipeline.list_pipelines()] == [Status.FAILED]

    run(main)


def test_source_that_never_opens_fails_the_start_within_the_limit_of_a_query() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = SlowToOpen(sample_frame(10))
            starting = asyncio.create_task(bench.start(source, query_timeout_s=7.0))
            await until(lambda: source.is_opening)

            await bench.manual.advance(7.0)

            with pytest.raises(ProducerStartError, match="within 7 s"):
                await starting
            assert bench.pipeline.pipeline_counts()[Status.FAILED] == 1

    run(main)


@pytest.mark.parametrize("moment", range(0, 60, 3))
def test_reader_cancelled_at_any_moment_leaves_no_task_cursor_or_live_record(moment: int) -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(2000))
            source.always = lambda: asyncio.sleep(0)

            async def read() -> None:
                async with await bench.start(source, chunk_size=50, max_demand=20, aggregations=["sum"]) as stream:
                    async for _ in stream:
                        await asyncio.sleep(0)

            reading = asyncio.create_task(read())
            for _ in range(moment):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])

            assert bench.pipeline.supervisor.children == frozenset()
            assert all(info.is_final for info in bench.pipeline.list_pipelines())
            assert all(cursor.closed for cursor in source.cursors)

    run(main)


def test_consumer_that_raises_ends_its_stream_and_no_other() -> None:
    async def main() -> None:
        async with Bench() as bench:
            other = await bench.start(sample_frame(3000))
            stream = await bench.start(sample_frame(3000))

            async def read() -> None:
                async with stream:
                    async for record in stream:
                        if record["id"] == 100:
                            raise ZeroDivisionError("of the reader")

            with pytest.raises(ZeroDivisionError):
                await read()

            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.STOPPED
            assert len([record async for record in other]) == 3000

    run(main)


# -- sources that hang or lie


def test_source_that_hangs_in_its_thread_fails_its_stream_within_the_limits() -> None:
    let_go = threading.Event()

    def rows() -> Iterator[dict[str, int]]:
        yield {"id": 1}
        let_go.wait(LIMIT_S)

    async def main() -> None:
        async with Pipeline(settings=PipelineSettings(shutdown_s=0.2)) as pipeline:
            limits = {"query_timeout_s": 0.1, "max_retries": 1, "retry_delay_s": 0.01}
            stream_id, stream = await pipeline.start_pipeline(source=rows, query=Query(), **limits)
            try:
                with pytest.raises(StreamFailedError, match=r"within 0\.1 s"):
                    await stream.take(10)
                assert pipeline.get_pipeline_info(stream_id).status is Status.FAILED
                assert pipeline.supervisor.children == frozenset()
            finally:
                let_go.set()

    started_s = time.monotonic()
    run(main)
    assert time.monotonic() - started_s < LIMIT_S / 2


def test_sources_that_hang_take_no_threads_from_others() -> None:
    let_go = threading.Event()

    def hangs() -> Iterator[dict[str, int]]:
        let_go.wait(LIMIT_S)
        yield {"id": 1}

    async def main() -> None:
        async with Pipeline() as pipeline:
            for _ in range(12):
                _, stream = await pipeline.start_pipeline(source=hangs, query=Query())
                stream.ask(1)
            _, stream = await pipeline.start_pipeline(source=[{"id": number} for number in range(100)], query=Query())
            try:
                async with asyncio.timeout(LIMIT_S / 2):
                    assert len(await stream.take(200)) == 100
            finally:
                let_go.set()

    run(main)


def test_source_that_gives_more_than_asked_fails_its_stream() -> None:
    class Generous(FakeSource):
        async def open(self, query: Query, *, pager: str = "keyset") -> Any:
            cursor = await super().open(query, pager=pager)
            fetch = cursor.fetch

            async def more(count: int) -> pl.DataFrame:
                return await fetch(count + 1)

            cursor.fetch = more  # type: ignore[method-assign]
            return cursor

    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(Generous(sample_frame(100)), chunk_size=10)

            with pytest.raises(StreamFailedError, match="11 rows where 10 were asked for"):
                await stream.take(10)

    run(main)


def test_hundreds_of_streams_every_tenth_of_which_fails_are_all_told_apart() -> None:
    def source_of(number: int) -> FakeSource:
        source = FakeSource(sample_frame(50, start=number))
        return source.fail(1, error=QueryError(f"source {number} is down")) if number % 10 == 0 else source

    async def main() -> None:
        async with Bench() as bench:

            async def read(number: int) -> int | str:
                stream = await bench.start(source_of(number), chunk_size=20, max_retries=0, aggregations=["sum"])
                try:
                    ids = [record["id"] async for record in stream]
                except StreamFailedError as exc:
                    return str(exc)
                assert ids == list(range(number, number + 50))
                total: int = bench.pipeline.get_aggregation_snapshot(stream.stream_id).aggregations["sum"]["id"]
                return total

            answers = await asyncio.gather(*map(read, range(400)))

            for number, answer in enumerate(answers):
                if number % 10:
                    assert answer == sum(range(number, number + 50))
                else:
                    assert str(answer).endswith(f"source {number} is down")
            counts = bench.pipeline.pipeline_counts()
            assert (counts[Status.COMPLETED], counts[Status.FAILED]) == (360, 40)
            assert bench.pipeline.supervisor.children == frozenset()

    run(main)


# -- transformers


def test_transformer_that_alters_records_and_breaks_sees_them_fresh_after_the_restart() -> None:
    calls = 0

    def transformer(record: dict[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        record["value"] += 1
        if calls == 50:
            raise RecoverableError("once")
        return record

    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(100), transformer=transformer)

            values = [record["value"] async for record in stream]

            assert values == [10 * number + 1 for number in range(1, 101)]

    run(main)


# -- shapes of data


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 8])
def test_few_rows_in_chunks_of_any_size_all_arrive(count: int, chunk_size: int) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(count), chunk_size=chunk_size, aggregations=["count", "sum"])

            ids = [record["id"] async for record in stream]
            snapshot = bench.pipeline.get_aggregation_snapshot(stream.stream_id)

            assert ids == list(range(1, count + 1))
            assert snapshot.aggregations["count"] == count
            assert snapshot.progress.percent_complete == 100.0

    run(main)


def test_limit_of_no_rows_gives_none() -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            _, stream = await pipeline.start_pipeline(source=[{"id": 1}], query=Query(limit=0))

            assert [record async for record in stream] == []

    run(main)


@pytest.mark.parametrize("kind", [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt32, pl.UInt64])
def test_sums_of_narrow_integers_do_not_wrap(kind: type[pl.DataType]) -> None:
    greatest = int(pl.select(kind.max()).item())  # type: ignore[attr-defined]

    async def main() -> None:
        async with Bench() as bench:
            frame = pl.DataFrame({"key": ["a", "a", "b"] * 400, "n": pl.Series([greatest] * 1200, dtype=kind)})
            grouping = {"group_by": ("key",), "aggregations": ("sum",)}
            stream = await bench.start(frame, aggregations=["sum", "running_total"], grouped_aggregations=[grouping])
            async for _ in stream.batches():
                pass

            snapshot = bench.pipeline.get_aggregation_snapshot(stream.stream_id)

            assert snapshot.aggregations["sum"]["n"] == snapshot.aggregations["running_total"]["n"] == 1200 * greatest
            groups = snapshot.grouped_aggregations[0].groups
            assert (groups["a"]["sum"]["n"], groups["b"]["sum"]["n"]) == (800 * greatest, 400 * greatest)

    run(main)


def test_keys_that_are_nan_or_none_make_one_group_each() -> None:
    async def main() -> None:
        async with Bench() as bench:
            keys: list[Hashable] = [float("nan"), None, 1.0, float("nan"), None]
            frame = pl.DataFrame({"key": keys, "n": [1, 2, 3, 4, 5]}, strict=False)
            grouping = {"group_by": ("key",), "aggregations": ("sum",)}
            stream = await bench.start(frame, chunk_size=2, grouped_aggregations=[grouping])
            async for _ in stream.batches():
                pass

            groups = bench.pipeline.get_aggregation_snapshot(stream.stream_id).grouped_aggregations[0].groups

            sums = {"nan" if key != key else key: figures["sum"]["n"] for key, figures in groups.items()}
            assert sums == {"nan": 5, None: 7, 1.0: 3}

    run(main)


def test_huge_texts_pass_and_are_counted_as_memory() -> None:
    async def main() -> None:
        async with Bench() as bench:
            frame = pl.DataFrame({"id": [1, 2, 3], "text": ["x" * 5_000_000] * 3})
            stream = await bench.start(frame, chunk_size=1)

            lengths = [len(record["text"]) async for record in stream]

            assert lengths == [5_000_000] * 3
            assert stream.figures().held_bytes_max >= 5_000_000

    run(main)


def test_rows_of_numbers_beyond_every_type_beside_others_keep_their_values() -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            rows = [{"n": 2**70, "m": 2**200, "d": date(2026, 1, 2)}, {"n": 1.5, "m": 1, "d": "later"}, {"n": "x"}]
            _, stream = await pipeline.start_pipeline(source=rows, query=Query())

            records = [record async for record in stream]

            assert [record["n"] for record in records] == [str(2**70), "1.5", "x"]
            assert [record["m"] for record in records] == [float(2**200), 1.0, None]
            assert [record["d"] for record in records] == ["2026-01-02", "later", None]

    run(main)


def test_batch_of_records_with_nested_ones_of_differing_shape_keeps_every_field() -> None:
    records: list[dict[str, Any]] = [{"to": {"name": "Ann"}}, {"to": {"place": "Rome"}}, {"to": None}, {"of": [1]}, {"of": [2.5]}]

    batch = Batch(records)

    assert batch.frame()["to"].to_list() == [{"name": "Ann", "place": None}, {"name": None, "place": "Rome"}, None, None, None]
    assert batch.frame()["of"].to_list() == [None, None, None, [1.0], [2.5]]


@pytest.mark.parametrize("wrong", [{"chunk_size": "5"}, {"chunk_size": 1.5}, {"max_demand": True}, {"buffer_size": 0}, {"query": 5}])
def test_option_of_the_wrong_kind_is_refused_before_anything_starts(wrong: dict[str, Any]) -> None:
    async def main() -> None:
        async with Bench() as bench:
            with pytest.raises(UsageError):
                await bench.start([{"id": 1}], **wrong)
            assert bench.pipeline.supervisor.children == frozenset()

    run(main)


@pytest.mark.parametrize("act", [lambda stream: stream.receive(0), lambda stream: stream.take(-1), lambda stream: anext(stream.batches(0))])
def test_stream_asked_for_less_than_a_row_refuses_instead_of_spinning(act: Callable[[Stream], Any]) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start([{"id": 1}])
            with pytest.raises(UsageError):
                await act(stream)

    run(main)


def test_load_for_groupings_brings_only_the_relations_they_lead_through(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "shop.db")
    database.executescript(
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, territory TEXT); CREATE TABLE note (id INTEGER PRIMARY KEY, sale_id INTEGER);"
        "CREATE TABLE sale (id INTEGER PRIMARY KEY, customer_id INTEGER, amount INTEGER);"
        "INSERT INTO customer VALUES (1, 'north'), (2, 'south'); INSERT INTO sale VALUES (1, 1, 10), (2, 2, 20), (3, 1, 30);"
    )
    database.close()
    customer = Relation(name="customer", table="customer", local=("customer_id",), foreign=("id",), kind="belongs_to")
    notes = Relation(name="notes", table="note", local=("id",), foreign=("sale_id",), kind="has_many")

    async def main() -> None:
        async with Pipeline() as pipeline:
            stream_id, stream = await pipeline.start_pipeline(
                source=str(tmp_path / "shop.db"),
                query=Query(table="sale", relations=(customer, notes)),
                load_config="groupings",
                grouped_aggregations=[{"group_by": ("customer.territory",), "aggregations": ("sum",), "fields": ("amount",)}],
            )

            records = [record async for record in stream]
            groups = pipeline.get_aggregation_snapshot(stream_id).grouped_aggregations[0].groups

            assert {name for record in records for name in record} == {"id", "customer_id", "amount", "customer"}
            assert {key: figures["sum"]["amount"] for key, figures in groups.items()} == {"north": 40, "south": 20}

    run(main)


@pytest.mark.parametrize(("is_named", "entries"), [(False, 0), (True, 1)])
def test_cache_keeps_no_rows_that_can_never_be_asked_for_again(is_named: bool, entries: int) -> None:
    async def main() -> None:
        async with Pipeline() as pipeline:
            rows = [{"id": number} for number in range(100)]
            source = IterableSource(rows, name="numbers") if is_named else None
            _, stream = await pipeline.start_pipeline(source=source or rows, query=Query())
            async for _ in stream:
                pass
            if source is not None:
                await source.close()

            assert pipeline.cache.stats().entry_count == entries

    run(main)


def test_buffer_never_holds_more_than_its_size_however_much_is_asked_for_at_once() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(5000))
            stream = await bench.start(source, buffer_size=100, max_demand=40, chunk_size=70)
            stream.ask(5000)
            await until(lambda: stream.figures().buffered_count == 100)
            for _ in range(100):
                await bench.manual.advance(1.0)  # far beyond the time that a stream may stand still while it owes rows

            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.RUNNING
            assert stream.figures().fetched_count <= 100 + 70
            ids: list[int] = []
            while len(ids) < 5000 and (batch := await stream.receive()) is not None:
                ids += [record["id"] for record in batch.records()]

            assert ids == list(range(1, 5001))
            assert stream.figures().buffered_count_max == 100

    run(main)
