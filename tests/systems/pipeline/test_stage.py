"""The middle stage: conversion, transformers, aggregates, demand, telemetry (PC-01 to PC-22)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from floodmark.core.clock import settle
from floodmark.systems.pipeline import Grouping, Status, Stream
from floodmark.systems.pipeline.errors import StageStartError, StreamFailedError, TransformerError
from tests.systems.pipeline.fixtures import (
    TERRITORIES,
    Bench,
    FakeSource,
    assert_aggregations,
    raising,
    sales_by_territory,
    sample_frame,
    sample_records,
)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def bad_at(*ids: int, error: type[Exception] = ValueError) -> Any:
    """A transformer that raises on these records."""

    def transformer(record: dict[str, Any]) -> dict[str, Any]:
        if record["id"] in ids:
            raise error(f"record {record['id']} is bad")
        return {**record, "seen": True}

    return transformer


def test_pc_01_conversion_gives_records_ready_for_a_report() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sales_by_territory(per_territory=1), conversion=True)

            (first, *_) = [record async for record in stream]

            assert first["sale_date"] == "2026-01-01"
            assert first["amount"] == pytest.approx(0.26)
            assert isinstance(first["amount"], float)

    run(main())


def test_pc_01_a_conversion_that_fails_lets_the_rows_go_on_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(20), conversion=True, chunk_size=10)
            monkeypatch.setattr(stream._stage, "_convert", lambda frame: raising(RuntimeError("cannot"))())

            records = [record async for record in stream]

            assert [record["id"] for record in records] == list(range(1, 21))

    run(main())
    assert caplog.text.count("conversion failed") == 1


def test_pc_01_aggregates_are_exact_although_decimals_are_converted() -> None:
    async def main() -> None:
        sales = sales_by_territory()
        async with Bench() as bench:
            stream = await bench.start(sales, conversion=True, aggregations=["sum"])

            _ = [record async for record in stream]

            snapshot = bench.pipeline.get_aggregation_snapshot(stream.stream_id)
            assert snapshot.aggregations["sum"]["amount"] == sum(sale["amount"] for sale in sales)
            assert isinstance(snapshot.aggregations["sum"]["amount"], Decimal)

    run(main())


def test_pc_02_a_transformer_is_applied_to_every_record() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(1200), transformer=lambda record: {"id": record["id"], "double": record["value"] * 2})

            records = [record async for record in stream]

            assert records == [{"id": number, "double": 20 * number} for number in range(1, 1201)]

    run(main())


def test_pc_02_aggregates_see_what_the_transformer_made() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(
                sample_records(100), transformer=lambda record: {"double": record["value"] * 2}, aggregations=["sum", "count"]
            )

            _ = [record async for record in stream]

            snapshot = bench.pipeline.get_aggregation_snapshot(stream.stream_id)
            assert snapshot.aggregations == {"sum": {"double": 20 * 5050}, "count": 100}

    run(main())


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, ZeroDivisionError, RuntimeError, IndexError])
def test_pc_03_records_with_bad_data_are_skipped_and_good_ones_go_on(error: type[Exception]) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(10), transformer=bad_at(3, 7, error=error))

            records = [record["id"] async for record in stream]

            assert records == [1, 2, 4, 5, 6, 8, 9, 10]
            assert stream.skipped_count == 2
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.COMPLETED

    run(main())


def test_pc_03_a_take_gives_what_was_asked_for_although_records_are_skipped() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(100), transformer=bad_at(*range(1, 51)))

            taken = [record["id"] for record in await stream.take(30)]

            assert taken == list(range(51, 81))

    run(main())


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (lambda record: [record], "must give a mapping back, got list"),
        (lambda record: record.missing, "AttributeError"),
    ],
)
def test_pc_03_a_transformer_that_is_wrong_itself_stops_the_stage(transformer: Any, message: str) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(10), transformer=transformer)

            with pytest.raises(StreamFailedError, match=message) as raised:
                _ = [record async for record in stream]

            assert isinstance(raised.value.__cause__, TransformerError)
            (event,) = bench.journal.of("producer_consumer.error")
            assert event.measurements == {"records": 10}
            assert message in event.metadata["reason"]

    run(main())


def test_pc_03_a_transformer_that_takes_no_record_is_refused_at_the_start() -> None:
    async def coroutine(record: dict[str, Any]) -> dict[str, Any]:
        return record

    async def main() -> None:
        async with Bench() as bench:
            refused: list[Any] = [lambda: {}, lambda one, two: {}, coroutine]
            for transformer in refused:
                with pytest.raises(StageStartError) as raised:
                    await bench.start(sample_records(1), transformer=transformer)
                assert isinstance(raised.value.__cause__, TransformerError)

            assert bench.pipeline.pipeline_counts()[Status.FAILED] == 3

    run(main())


def test_pc_03_a_coroutine_in_disguise_stops_the_stage_without_a_warning() -> None:
    async def later(record: dict[str, Any]) -> dict[str, Any]:
        return record

    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(1), transformer=lambda record: later(record))

            with pytest.raises(StreamFailedError, match="got coroutine"):
                await stream.take(1)

    run(main())


def test_pc_04_skipped_records_are_counted_in_the_batch_event() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(10), transformer=bad_at(3, 7))

            _ = [record async for record in stream]

            (event,) = bench.journal.of("producer_consumer.batch_transformed")
            assert event.measurements["records_in"] == 10
            assert event.measurements["records_out"] == 8
            assert event.measurements["records_failed"] == 2

    run(main())


async def aggregated(bench: Bench, rows: Any, **options: Any) -> Any:
    """Read a stream in batches of 50 to its end and give its aggregates."""
    stream = await bench.start(rows, max_demand=50, **options)
    _ = [record async for record in stream]
    return bench.pipeline.get_aggregation_snapshot(stream.stream_id)


def test_pc_05_to_08_sum_count_avg_min_max_over_three_batches() -> None:
    async def main() -> None:
        async with Bench() as bench:
            snapshot = await aggregated(bench, sample_records(150), aggregations=["sum", "count", "avg", "min", "max"])

            assert len(bench.journal.of("producer_consumer.batch_transformed")) == 3
            assert_aggregations(
                snapshot,
                {
                    "sum": {"value": 113_250, "amount": 16_987.5},
                    "count": 150,
                    "avg": {"value": 755},
                    "min": {"value": 10, "amount": 1.5},
                    "max": {"value": 1500, "amount": 225.0},
                },
            )

    run(main())


def test_pc_09_a_running_total_moves_with_each_batch() -> None:
    async def main() -> None:
        async with Bench() as bench:
            await aggregated(bench, sample_records(150), aggregations=["running_total"])

            totals = [
                event.metadata["aggregations"]["running_total"]["value"]
                for event in bench.journal.of("producer_consumer.aggregation_computed")
            ]
            assert totals == [10 * count * (count + 1) // 2 for count in (50, 100, 150)]

    run(main())


def test_pc_10_all_aggregates_at_once() -> None:
    async def main() -> None:
        async with Bench() as bench:
            functions = ["sum", "count", "avg", "min", "max", "running_total"]
            snapshot = await aggregated(bench, sample_records(100), aggregations=functions)

            assert list(snapshot.aggregations) == functions
            assert_aggregations(snapshot, {"sum": {"id": 5050}, "count": 100, "avg": {"id": 50.5}, "running_total": {"id": 5050}})

    run(main())


def test_pc_11_groups_by_one_field() -> None:
    async def main() -> None:
        sales = sales_by_territory()
        async with Bench() as bench:
            grouping = Grouping(group_by=("territory",), aggregations=("sum", "count"), fields=("amount",))
            snapshot = await aggregated(bench, sales, grouped_aggregations=[grouping])

            (groups,) = snapshot.grouped_aggregations
            assert groups.groups == {
                name: {"sum": {"amount": sum(sale["amount"] for sale in sales if sale["territory"] == name)}, "count": 25}
                for name in sorted(TERRITORIES)
            }

    run(main())


def test_pc_12_groups_by_two_fields_have_tuples_as_keys() -> None:
    async def main() -> None:
        async with Bench() as bench:
            grouping = {"group_by": ["territory", "product_category"], "aggregations": ["count"]}
            snapshot = await aggregated(bench, sales_by_territory(), grouped_aggregations=[grouping])

            (groups,) = snapshot.grouped_aggregations
            assert groups.group_count == 8
            assert groups.groups[("north", "tea")] == {"count": 13}
            assert groups.groups[("north", "coffee")] == {"count": 12}

    run(main())


def test_pc_13_a_full_grouping_rejects_and_the_records_stay_in_the_stream() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(
                sample_records(150, groups=150),
                grouped_aggregations=[Grouping(group_by=("category",), aggregations=("count",), max_groups=100)],
            )

            records = [record async for record in stream]

            (groups,) = bench.pipeline.get_aggregation_snapshot(stream.stream_id).grouped_aggregations
            assert (groups.group_count, groups.rejected) == (100, 50)
            assert len(records) == 150

    run(main())


def test_pc_14_a_full_grouping_is_told_once_per_batch_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Bench() as bench:
            grouping = Grouping(group_by=("category",), aggregations=("count",), max_groups=10)
            await aggregated(bench, sample_records(150, groups=150), grouped_aggregations=[grouping])

            events = bench.journal.of("producer_consumer.group_limit_reached")
            assert [event.measurements for event in events] == [{"max_groups": 10, "current_count": 10}] * 3
            assert {event.metadata["group_by"] for event in events} == {("category",)}

    run(main())
    assert caplog.text.count("is full at 10 groups") == 1


def test_pc_14_exactly_at_the_limit_nothing_is_told() -> None:
    async def main() -> None:
        async with Bench() as bench:
            grouping = Grouping(group_by=("category",), aggregations=("count",), max_groups=10)
            await aggregated(bench, sample_records(150, groups=10), grouped_aggregations=[grouping])

            assert bench.journal.of("producer_consumer.group_limit_reached") == []

    run(main())


def test_pc_15_several_groupings_are_independent() -> None:
    async def main() -> None:
        async with Bench() as bench:
            groupings = [
                Grouping(group_by=("territory",), aggregations=("count",)),
                Grouping(group_by=("customer_name",), aggregations=("sum",), fields=("quantity",), max_groups=3),
                Grouping(group_by=("territory", "customer_name"), aggregations=("count",)),
            ]
            snapshot = await aggregated(bench, sales_by_territory(), grouped_aggregations=groupings)

            assert [groups.group_count for groups in snapshot.grouped_aggregations] == [4, 3, 28]
            assert [groups.rejected > 0 for groups in snapshot.grouped_aggregations] == [False, True, False]

    run(main())


def test_pc_16_rejections_are_counted_in_the_event_of_their_batch() -> None:
    async def main() -> None:
        async with Bench() as bench:
            grouping = Grouping(group_by=("category",), aggregations=("count",), max_groups=70)
            await aggregated(bench, sample_records(150, groups=150), grouped_aggregations=[grouping])

            rejected = [event.measurements["records_rejected"] for event in bench.journal.of("producer_consumer.batch_transformed")]
            assert rejected == [0, 30, 50]

    run(main())


def demand_steps(stream: Stream) -> list[int]:
    """What the stage asks of the producer from now on, ask by ask."""
    upstream, steps = stream._stage._upstream, list[int]()
    upstream.on_ask = lambda: steps.append(upstream.asked_count - sum(steps))
    return steps


def test_pc_17_demand_goes_up_in_steps_of_max_demand() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(200), max_demand=50)
            asked = demand_steps(stream)

            await stream.take(200)

            assert asked == [50, 50, 50, 50]

    run(main())


def test_pc_17_the_next_step_is_asked_for_at_min_demand() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(200))
            stream = await bench.start(source, max_demand=50, min_demand=20, chunk_size=35)
            asked = demand_steps(stream)

            taken = [record["id"] for record in await stream.take(200)]

            assert taken == list(range(1, 201))
            assert sum(asked) == 200
            assert asked[:2] == [50, 35]  # 15 of the first 50 are still to come when the next are asked for

    run(main())


def test_pc_18_with_a_slow_consumer_no_more_waits_than_the_buffer_takes() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(5000), buffer_size=100, max_demand=50)
            seen = 0
            async for _ in stream:
                await asyncio.sleep(0)
                seen += 1
                assert stream.figures().buffered_count <= 100

            assert seen == 5000
            assert stream.figures().buffered_count_max <= 100

    run(main())


@pytest.mark.parametrize(("waiting", "told"), [(50, 0), (80, 0), (85, 1)])
def test_pc_19_a_buffer_above_80_percent_is_told(waiting: int, told: int) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(500), buffer_size=100)

            stream.ask(waiting)
            await settle()

            events = bench.journal.of("producer_consumer.buffer_full")
            assert [event.measurements for event in events] == [{"buffer_size": 100, "records_buffered": waiting}] * told

    run(main())


def test_pc_20_a_batch_is_told_with_counts_and_duration() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(30))

            await stream.take(30)

            (event,) = bench.journal.of("producer_consumer.batch_transformed")
            assert event.measurements == {
                "records_in": 30,
                "records_out": 30,
                "records_failed": 0,
                "records_rejected": 0,
                "duration_ms": pytest.approx(0),
                "records_buffered": 30,
            }
            assert event.metadata == {"stream_id": stream.stream_id}

    run(main())


def test_pc_21_the_state_of_the_aggregates_is_told() -> None:
    async def main() -> None:
        async with Bench() as bench:
            grouping = Grouping(group_by=("category",), aggregations=("count",))
            await aggregated(bench, sample_records(50, groups=5), aggregations=["count"], grouped_aggregations=[grouping])

            (event,) = bench.journal.of("producer_consumer.aggregation_computed")
            assert event.measurements == {"records_processed": 50}
            assert event.metadata["aggregations"] == {"count": 50}
            assert event.metadata["grouped_aggregations"][0].groups["group_1"] == {"count": 10}

    run(main())


def test_pc_22_a_batch_has_a_throughput_of_at_most_its_records_in_a_millisecond() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(30))

            await stream.take(30)

            (event,) = bench.journal.of("throughput")
            assert event.measurements == {"records_per_second": 30_000}

    run(main())


def test_stage_without_telemetry_nothing_is_told() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(30), enable_telemetry=False)

            await stream.take(30)

            assert bench.journal.events == []

    run(main())


def test_stage_many_bad_records_are_logged_in_part_and_counted_in_full(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(100), transformer=bad_at(*range(1, 51)))

            _ = [record async for record in stream]

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.text.count("a record is skipped") == 5
    assert "50 records of one batch are skipped in all" in caplog.text


def test_stage_a_transformer_may_give_any_mapping() -> None:
    class Row(Mapping[str, Any]):
        def __init__(self, number: int) -> None:
            self.number = number

        def __getitem__(self, name: str) -> Any:
            return {"id": self.number}[name]

        def __iter__(self) -> Any:
            return iter(["id"])

        def __len__(self) -> int:
            return 1

    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(3), transformer=lambda record: Row(record["id"]), aggregations=["sum"])

            assert [record["id"] async for record in stream] == [1, 2, 3]
            assert bench.pipeline.get_aggregation_snapshot(stream.stream_id).aggregations == {"sum": {"id": 6}}

    run(main())


def test_stage_frames_keep_their_type_without_a_transformer() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(2500))

            frames = [batch.frame() async for batch in stream.batches()]

            assert [len(frame) for frame in frames] == [1000, 1000, 500]
            assert pl.concat(frames).equals(sample_frame(2500))

    run(main())
