"""What breaks is tried again, skipped, restarted or ended, and always told (ER-01 to ER-19)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from floodmark.core.clock import ManualClock, settle
from floodmark.core.states import IllegalTransitionError
from floodmark.systems.pipeline import Ladder, Pipeline, PipelineSettings, Query, Status
from floodmark.systems.pipeline.errors import (
    MemoryRefusedError,
    ProducerStartError,
    QueryError,
    QueryRefusedError,
    QueryTimeoutError,
    RecoverableError,
    StreamFailedError,
    StreamStoppedError,
)
from floodmark.systems.pipeline.supervisor import GaveUpError
from tests.systems.pipeline.fixtures import Bench, FakeSource, raising, sample_frame, sample_records, until


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def status_of(bench: Bench, stream_id: str) -> tuple[Status, str]:
    info = bench.pipeline.get_pipeline_info(stream_id)
    return info.status, info.reason


def test_er_01_a_query_that_fails_twice_succeeds_on_the_third_attempt() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(100)).fail(0, 1, error=QueryError("busy"))
            stream = await bench.start(source)
            taking = asyncio.create_task(stream.take(100))

            await bench.manual.advance(3)

            assert len(await taking) == 100
            assert stream.figures().retried_count == 2
            assert status_of(bench, stream.stream_id) == (Status.COMPLETED, "")

    run(main())


def test_er_02_given_up_the_registry_says_failed_and_nothing_overwrites_it() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(100)).fail(0, 1, 2, 3, error=QueryError("down"))
            stream = await bench.start(source)
            taking = asyncio.create_task(stream.take(100))
            await bench.manual.advance(7)
            with pytest.raises(StreamFailedError):
                await taking

            with pytest.raises(IllegalTransitionError, match="failed cannot become completed: it is final"):
                bench.pipeline.registry.update_status(stream.stream_id, Status.COMPLETED)
            await bench.pipeline.stop(stream.stream_id)

            assert status_of(bench, stream.stream_id)[0] is Status.FAILED

    run(main())


def test_er_02_others_are_served_while_a_query_waits_to_be_tried_again() -> None:
    async def main() -> None:
        async with Bench() as bench:
            waiting = await bench.start(FakeSource(sample_frame(100)).fail(0, error=QueryError("busy")))
            taking = asyncio.create_task(waiting.take(1))
            await settle()

            other = await bench.start(sample_frame(1000))
            records = [record async for record in other]

            assert len(records) == 1000
            assert not taking.done()
            await bench.manual.advance(1)
            assert len(await taking) == 1

    run(main())


def test_er_03_a_permanent_failure_is_told_with_its_reason() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(FakeSource(sample_frame(100)).fail(0, error=QueryRefusedError("no table")), max_retries=0)
            with pytest.raises(StreamFailedError):
                await stream.take(1)

            assert [event.metadata["reason"] for event in bench.journal.of("producer.error")] == ["QueryRefusedError: no table"]
            (event,) = bench.journal.of("pipeline.exception")
            assert event.metadata["reason"] == "the source refused the query: no table"

    run(main())


def test_er_04_after_a_failure_cursor_rows_and_tasks_are_gone() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(5000)).fail(1, error=QueryError("down"))
            stream = await bench.start(source, max_retries=0, enable_cache=True, buffer_size=5000)
            stream.ask(1500)
            await until(lambda: bench.pipeline.pipeline_counts()[Status.FAILED])
            with pytest.raises(StreamFailedError):
                await stream.receive()

            assert [cursor.closed for cursor in source.cursors] == [True]
            figures = stream.figures()
            assert (figures.held_bytes, figures.in_flight_count, figures.surplus_count) == (0, 0, 0)
            assert bench.pipeline.supervisor.children == frozenset()

    run(main())


def test_er_05_to_08_bad_records_are_skipped_logged_counted_and_the_stage_lives(caplog: pytest.LogCaptureFixture) -> None:
    def transformer(record: dict[str, Any]) -> dict[str, Any]:
        if record["id"] == 50:
            raise ValueError("fifty is bad")
        return record

    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(100), transformer=transformer, max_demand=25)

            records = [record["id"] async for record in stream]

            assert records == [number for number in range(1, 101) if number != 50]
            events = bench.journal.of("producer_consumer.batch_transformed")
            assert [event.measurements["records_failed"] for event in events if event.measurements["records_failed"]] == [1]
            assert status_of(bench, stream.stream_id) == (Status.COMPLETED, "")

    run(main())
    assert "ValueError: fifty is bad" in caplog.text
    assert "'id': 50" in caplog.text


@pytest.mark.parametrize(("which", "reason"), [("producer", "the producer was killed"), ("producer_consumer", "the stage was killed")])
def test_er_09_and_10_a_stage_that_is_killed_fails_the_stream(which: str, reason: str) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(10_000))
            await stream.take(10)

            getattr(bench.pipeline.get_pipeline_info(stream.stream_id), which).cancel()

            with pytest.raises(StreamFailedError, match=reason):
                _ = [record async for record in stream]
            assert status_of(bench, stream.stream_id) == (Status.FAILED, reason)
            assert bench.pipeline.supervisor.children == frozenset()

    run(main())


def test_er_09_a_producer_that_dies_of_a_bug_fails_the_stream_with_it() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(100))
            source.acts[0] = raising(ZeroDivisionError("oops"))
            stream = await bench.start(source)

            with pytest.raises(StreamFailedError, match="the producer died: ZeroDivisionError: oops"):
                await stream.take(1)

    run(main())


def test_er_11_a_recoverable_crash_of_the_producer_is_restarted_and_no_row_is_lost_or_twice() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(1000)).fail(2, 5, error=RecoverableError("connection pool reset"))
            stream = await bench.start(source, chunk_size=100)

            records = [record["id"] async for record in stream]

            assert records == list(range(1, 1001))
            assert bench.pipeline.supervisor.restarted_count == 2

    run(main())


def test_er_11_a_recoverable_crash_of_the_stage_keeps_its_batch() -> None:
    crashes = [250, 700]

    def transformer(record: dict[str, Any]) -> dict[str, Any]:
        if crashes and record["id"] == crashes[0]:
            crashes.pop(0)
            raise RecoverableError("a worker is gone")
        return record

    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_records(1000), transformer=transformer, max_demand=100, aggregations=["count"])

            records = [record["id"] async for record in stream]

            assert records == list(range(1, 1001))
            assert bench.pipeline.get_aggregation_snapshot(stream.stream_id).aggregations == {"count": 1000}

    run(main())


def test_er_12_a_stage_that_crashes_again_and_again_is_given_up_after_ten_restarts() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(100))
            source.always = raising(RecoverableError("still broken"))
            stream = await bench.start(source)

            with pytest.raises(StreamFailedError, match="after 10 restarts within 60 s") as raised:
                await stream.take(1)

            assert isinstance(raised.value.__cause__, GaveUpError)
            assert len(source.queries) == 11

    run(main())


def test_er_13_at_95_percent_a_stream_that_could_not_make_room_is_killed() -> None:
    async def main() -> None:
        frame = sample_frame(2000)
        async with Bench() as bench:
            stream = await bench.start(frame, memory_limit_bytes=int(frame.head(1000).estimated_size() / 0.97))
            taking = asyncio.create_task(stream.take(1))
            await settle()
            assert status_of(bench, stream.stream_id) == (Status.PAUSED, "memory")

            await bench.manual.advance(1)

            with pytest.raises(StreamFailedError, match="memory_limit_exceeded"):
                await taking
            assert status_of(bench, stream.stream_id) == (Status.FAILED, "memory_limit_exceeded")
            (critical,) = bench.journal.of("memory_critical")
            assert critical.metadata["action"] == "circuit_break"
            assert critical.measurements["memory_usage"] >= critical.measurements["threshold"]

    run(main())


def test_er_13_without_the_kill_step_it_stays_paused() -> None:
    async def main() -> None:
        frame = sample_frame(2000)
        async with Bench() as bench:
            limit_bytes = int(frame.head(1000).estimated_size() / 0.97)
            stream = await bench.start(frame, memory_limit_bytes=limit_bytes, ladder=Ladder(kill_ratio=None))
            stream.ask(1)

            await bench.manual.advance(10)

            assert status_of(bench, stream.stream_id) == (Status.PAUSED, "memory")

    run(main())


def test_er_13_memory_that_never_comes_free_ends_the_stream_instead_of_hanging_it() -> None:
    async def main() -> None:
        frame = sample_frame(2000)
        async with Bench() as bench:
            limit_bytes = int(frame.head(1000).estimated_size() / 0.92)
            stream = await bench.start(frame, memory_limit_bytes=limit_bytes)
            stream.ask(1)

            await bench.manual.advance(40)

            assert status_of(bench, stream.stream_id) == (Status.FAILED, "memory_limit_exceeded")

    run(main())


def hanging(source: FakeSource) -> FakeSource:
    source.always = lambda: asyncio.get_running_loop().create_future()
    return source


def test_er_14_and_15_a_stream_that_owes_rows_and_does_not_move_for_30_s_fails() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(hanging(FakeSource(sample_frame(100))), query_timeout_s=None)
            taking = asyncio.create_task(stream.take(1))
            await bench.manual.advance(29)
            assert status_of(bench, stream.stream_id) == (Status.RUNNING, "")

            await bench.manual.advance(6)

            with pytest.raises(StreamFailedError, match="stalled"):
                await taking
            (event,) = bench.journal.of("intervention")
            assert event.metadata == {"stream_id": stream.stream_id, "action": "fail", "reason": "stalled"}
            assert event.measurements["idle_time"] > 30
            assert [event.metadata["reason"] for event in bench.journal.of("pipeline.exception")] == ["stalled"]

    run(main())


def test_er_14_a_stream_whose_consumer_asks_for_nothing_is_not_stalled() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(100))
            await stream.take(10)

            await bench.manual.advance(300)

            assert status_of(bench, stream.stream_id) == (Status.RUNNING, "")
            assert len(await stream.take(90)) == 90

    run(main())


def test_er_16_a_single_failure_in_the_middle_loses_nothing() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(1000)).fail(3, error=QueryError("a hiccup"))
            stream = await bench.start(source, chunk_size=100)
            reading = asyncio.create_task(stream.take(1000))

            await bench.manual.advance(1)

            assert [record["id"] for record in await reading] == list(range(1, 1001))

    run(main())


def test_er_17_a_query_that_takes_too_long_is_tried_again() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(100))
            source.acts[0] = lambda: asyncio.get_running_loop().create_future()
            stream = await bench.start(source, query_timeout_s=5)
            taking = asyncio.create_task(stream.take(100))

            await bench.manual.advance(6)

            assert len(await taking) == 100
            assert [at_s - source.asked_s[0] for at_s in source.asked_s] == [0, 6]

    run(main())


def test_er_17_a_query_that_always_takes_too_long_fails_with_its_limit() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(hanging(FakeSource(sample_frame(100))), query_timeout_s=5)
            taking = asyncio.create_task(stream.take(100))

            await bench.manual.advance(27)

            with pytest.raises(StreamFailedError, match="gave no rows within 5 s") as raised:
                await taking
            assert isinstance(raised.value.__cause__, Exception)
            assert isinstance(raised.value.__cause__.__cause__, QueryTimeoutError)

    run(main())


def test_er_17_a_timeout_of_the_source_itself_is_tried_again_too() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(100)).fail(0, error=TimeoutError("connection timed out"))
            stream = await bench.start(source)
            taking = asyncio.create_task(stream.take(1))

            await bench.manual.advance(1)

            assert len(await taking) == 1

    run(main())


def test_er_18_without_memory_a_start_is_refused_and_leaves_nothing() -> None:
    async def main() -> None:
        async with Pipeline(clock=ManualClock(), available_bytes=lambda: 10_000_000) as pipeline:
            with pytest.raises(MemoryRefusedError, match="has 10 MB of memory available and at least 67 MB must stay free"):
                await pipeline.start_pipeline(source=FakeSource(sample_records(1)), query=Query())

            assert pipeline.list_pipelines() == []
            assert pipeline.supervisor.children == frozenset()

    run(main())


def test_er_18_when_the_others_hold_all_there_is_a_start_is_refused() -> None:
    async def main() -> None:
        async with Bench(settings=PipelineSettings(memory_total_bytes=20_000)) as bench:
            stream = await bench.start(sample_frame(1000))
            await stream.take(1)

            with pytest.raises(MemoryRefusedError, match="the running ones hold"):
                await bench.start(sample_frame(10))

    run(main())


@pytest.mark.parametrize("which", ["producer", "producer_consumer"])
def test_er_19_a_crash_during_a_pause_fails_the_stream(which: str) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000))
            bench.pipeline.pause(stream.stream_id)
            taking = asyncio.create_task(stream.take(1))
            await settle()

            getattr(bench.pipeline.get_pipeline_info(stream.stream_id), which).cancel()

            with pytest.raises(StreamFailedError, match="was killed"):
                await taking
            assert status_of(bench, stream.stream_id)[0] is Status.FAILED

    run(main())


def test_in_21_a_source_that_cannot_be_opened_is_told_at_the_start() -> None:
    async def main() -> None:
        async with Bench() as bench:
            for refusal, expected in (
                (QueryRefusedError("no such table"), QueryRefusedError),
                (QueryError("server down"), ProducerStartError),
                (OSError("disk"), ProducerStartError),
            ):
                source = FakeSource(sample_records(1))
                source.refusal = refusal
                with pytest.raises(expected, match=str(refusal)):
                    await bench.start(source)

            assert bench.pipeline.pipeline_counts()[Status.FAILED] == 3
            assert bench.pipeline.supervisor.children == frozenset()
            assert len(bench.journal.of("pipeline.exception")) == 3

    run(main())


def test_stop_while_a_query_runs_ends_it_at_once() -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = hanging(FakeSource(sample_frame(100)))
            stream = await bench.start(source)
            taking = asyncio.create_task(stream.take(1))
            await settle()

            info = await bench.pipeline.stop(stream.stream_id)

            assert info.status is Status.STOPPED
            assert source.cursors[0].closed
            with pytest.raises(StreamStoppedError):
                await taking
            gc.collect()

    run(main())
