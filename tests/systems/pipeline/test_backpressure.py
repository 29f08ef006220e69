"""Nothing moves that was not asked for, and nothing piles up anywhere (BP-01 to BP-13)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from floodmark.core.clock import settle
from floodmark.systems.pipeline import Grouping, PipelineSettings, Status, Stream
from tests.systems.pipeline.fixtures import Bench, FakeSource, consume_with_monitoring, sample_frame, until


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_bp_01_without_demand_nothing_is_even_fetched() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(1000))
            stream = await bench.start(source)

            await bench.manual.advance(20)

            assert source.queries == []
            assert stream.figures().records_out == 0
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.RUNNING

    run(main())


def test_bp_02_no_batch_is_larger_than_max_demand() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(500), max_demand=50)

            _ = [record async for record in stream]

            sizes = [event.measurements["records_in"] for event in bench.journal.of("producer_consumer.batch_transformed")]
            assert sum(sizes) == 500
            assert max(sizes) == 50

    run(main())


def test_bp_03_and_04_paused_through_the_registry_it_stops_and_resumed_it_continues() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(5000), buffer_size=200, max_demand=100)
            await stream.take(500)
            bench.pipeline.registry.update_status(stream.stream_id, Status.PAUSED)
            reading = asyncio.create_task(consume_with_monitoring(stream))
            await bench.manual.advance(10)
            stopped_at = stream.figures().records_out

            await bench.manual.advance(10)

            assert stream.figures().records_out == stopped_at == 500
            bench.pipeline.registry.update_status(stream.stream_id, Status.RUNNING)
            assert len((await reading).records) == 4500

    run(main())


def test_bp_05_and_06_the_middle_stage_waits_and_its_buffer_never_overflows() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(10_000), buffer_size=100, max_demand=50)

            await stream.take(1)
            stream._fill()
            await bench.manual.advance(20)

            figures = stream.figures()
            assert figures.buffered_count == 100
            assert figures.buffered_count_max == 100
            assert figures.fetched_count == 1000

    run(main())


def test_bp_07_a_buffer_at_85_percent_is_told() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000), buffer_size=200, max_demand=170)

            stream.ask(170)
            await settle()

            assert len(bench.journal.of("producer_consumer.buffer_full")) == 1

    run(main())


def test_bp_08_over_the_memory_limit_the_producer_pauses_and_goes_on_once_there_is_room() -> None:
    async def main() -> None:
        frame = sample_frame(10_000)
        async with Bench() as bench:
            limit_bytes = int(frame.head(1000).estimated_size() / 0.92)
            stream = await bench.start(frame, memory_limit_bytes=limit_bytes, max_demand=1000)
            stream.ask(1000)
            await settle()
            status = bench.pipeline.get_pipeline_info(stream.stream_id).status
            assert status is Status.PAUSED

            await bench.manual.advance(1)  # still too much
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.PAUSED
            stream._producer._surplus = stream._producer._surplus.slice(0, 500)  # type: ignore[union-attr]  # room from elsewhere
            await bench.manual.advance(1)

            assert stream.figures().records_out == 500  # the chunk after them pauses it anew

    run(main())


def test_bp_08_a_stream_under_pressure_still_gives_everything() -> None:
    async def main() -> None:
        frame = sample_frame(20_000)
        async with Bench() as bench:
            limit_bytes = int(frame.head(1000).estimated_size() * 1.3)
            stream = await bench.start(frame, memory_limit_bytes=limit_bytes, buffer_size=5000)
            reading = asyncio.create_task(consume_with_monitoring(stream))
            while not reading.done():
                await bench.manual.advance(1)

            assert [record["id"] for record in (await reading).records] == list(range(1, 20_001))
            assert stream.figures().held_bytes_max <= limit_bytes * 1.8
            assert bench.journal.of("memory_warning")

    run(main())


def test_bp_09_at_85_percent_chunks_are_smaller() -> None:
    async def main() -> None:
        frame = sample_frame(10_000)
        source = FakeSource(frame)
        async with Bench() as bench:
            stream = await bench.start(source, memory_limit_bytes=int(frame.head(1000).estimated_size() / 0.85), max_demand=1000)
            await stream.take(1000)
            await stream.take(1)

            assert [count for _, count in source.queries] == [1000, 500]
            (warning,) = bench.journal.of("memory_warning")
            assert warning.metadata["action"] == "throttle"

    run(main())


def test_bp_10_the_monitor_pauses_a_stream_above_the_shared_threshold() -> None:
    async def main() -> None:
        frame = sample_frame(10_000)
        async with Bench(settings=PipelineSettings(memory_threshold_bytes=int(frame.head(500).estimated_size()))) as bench:
            stream = await bench.start(frame)
            await stream.take(1)

            await bench.manual.advance(5)

            info = bench.pipeline.get_pipeline_info(stream.stream_id)
            assert (info.status, info.reason) == (Status.PAUSED, "memory")
            (intervention,) = bench.journal.of("intervention")
            assert intervention.metadata == {"stream_id": stream.stream_id, "action": "pause", "reason": "memory_threshold_exceeded"}

    run(main())


def test_bp_11_a_slow_consumer_is_felt_at_every_stage() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(10_000))
            stream = await bench.start(source, buffer_size=100, max_demand=50, chunk_size=200)
            taken = 0
            async for _ in stream:
                taken += 1
                if taken % 50 == 0:
                    await settle()
                    figures = stream.figures()
                    assert figures.buffered_count <= 100
                    assert figures.in_flight_count <= 100 + 50
                    assert figures.fetched_count <= taken + 100 + 50 + 200

            assert taken == 10_000

    run(main())


def test_bp_12_memory_does_not_grow_with_the_data() -> None:
    async def held_max(count: int) -> int:
        async with Bench() as bench:
            grouping = Grouping(group_by=("category",), aggregations=("sum",), fields=("value",))
            stream = await bench.start(FakeSource(sample_frame(count)), grouped_aggregations=[grouping])
            async for _ in stream.batches():
                pass
            return stream.figures().held_bytes_max

    async def main() -> None:
        small, large = await held_max(30_000), await held_max(100_000)

        assert large < 1.1 * small

    run(main())


def test_bp_13_a_slow_reader_of_a_stream_does_not_starve_a_fast_one() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(20_000), chunk_size=100)
            gate, slow, fast = asyncio.Event(), list[int](), list[int]()

            async def reads(seen: list[int], wait: asyncio.Event | None) -> None:
                async for batch in stream.batches(100):
                    seen.extend(record["id"] for record in batch.records())
                    if wait is not None:
                        await wait.wait()

            both = [asyncio.create_task(reads(slow, gate)), asyncio.create_task(reads(fast, None))]
            await until(lambda: len(fast) + len(slow) == 20_000)
            assert len(slow) == 100  # it still has its first batch in hand
            gate.set()
            await asyncio.gather(*both)

            assert sorted(slow + fast) == list(range(1, 20_001))

    run(main())


def test_bp_13_a_stream_nobody_reads_does_not_hold_up_another() -> None:
    async def main() -> None:
        async with Bench() as bench:
            idle = await bench.start(sample_frame(1000))
            stream = await bench.start(sample_frame(10_000))
            idle.ask(10)

            consumed = await consume_with_monitoring(stream)

            assert len(consumed.records) == 10_000
            assert idle.figures().buffered_count == 10

    run(main())


@pytest.mark.parametrize("slow", [False, True])
def test_bp_11_in_flight_never_exceeds_buffer_and_one_step_of_demand(slow: bool) -> None:
    async def pause() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        async with Bench() as bench:
            stream: Stream = await bench.start(sample_frame(10_000), buffer_size=100, max_demand=50, min_demand=10)

            consumed = await consume_with_monitoring(stream, each=pause if slow else None)

            assert len(consumed.records) == 10_000
            assert consumed.in_flight_count_max <= 100 + 50

    run(main())
