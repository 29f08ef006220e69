"""The health monitor: what it sees, what it tells, what it does, and the memory ladder it goes by."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline import Grouping, Ladder, PipelineSettings, Status
from floodmark.systems.pipeline.memory import MemoryLadder, Step
from tests.systems.pipeline.fixtures import Bench, FakeSource, sample_frame

MB = 1_000_000


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_each_tick_tells_how_many_streams_there_are_and_what_they_hold() -> None:
    async def main() -> None:
        async with Bench() as bench:
            streams = [await bench.start(sample_frame(1000)) for _ in range(3)]
            for stream in streams:
                await stream.take(1)

            await bench.manual.advance(10)

            events = bench.journal.of("health_check")
            assert [event.measurements["active_pipelines"] for event in events] == [3, 3]
            held = sum(stream.figures().held_bytes for stream in streams)
            assert events[-1].measurements["total_memory"] == held > 0
            assert events[-1].metadata["timestamp"] - events[0].metadata["timestamp"] == 5

    run(main())


def test_memory_is_sampled_into_the_registry_every_second() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000))
            await stream.take(1)

            await bench.manual.advance(1)

            assert bench.pipeline.get_pipeline_info(stream.stream_id).memory_usage_bytes == stream.figures().held_bytes > 0

    run(main())


def test_groups_count_as_memory() -> None:
    async def main() -> None:
        async with Bench() as bench:
            grouping = Grouping(group_by=("category",), aggregations=("count",))
            stream = await bench.start(sample_frame(5000, groups=5000), grouped_aggregations=[grouping], chunk_size=5000)
            _ = [batch async for batch in stream.batches()]

            assert stream.figures().held_bytes >= 5000 * 600

    run(main())


def test_the_throughput_of_running_streams_is_told() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(1000))
            await stream.take(500)
            bench.journal.events.clear()

            await bench.manual.advance(10)

            assert [event.measurements["records_per_second"] for event in bench.journal.of("throughput")] == [100, 0]

    run(main())


def test_a_stream_above_the_shared_threshold_is_paused_and_goes_on_below_80_percent_of_it() -> None:
    async def main() -> None:
        async with Bench(settings=PipelineSettings(memory_threshold_bytes=500 * MB)) as bench:
            registry = bench.pipeline.registry
            registry.register("outside")
            stream = await bench.start(sample_frame(10))  # so that the monitor runs
            registry.update_memory_usage("outside", 501 * MB)
            await bench.manual.advance(5)
            assert registry.get("outside").status is Status.PAUSED
            (warning,) = bench.journal.of("memory_warning")
            assert warning.measurements == {"memory_usage": 501 * MB, "threshold": 500 * MB}
            assert warning.metadata == {"stream_id": "outside", "action": "pause"}

            registry.update_memory_usage("outside", 450 * MB)
            await bench.manual.advance(5)
            assert registry.get("outside").status is Status.PAUSED
            registry.update_memory_usage("outside", 399 * MB)
            await bench.manual.advance(5)

            assert registry.get("outside").status is Status.RUNNING
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.RUNNING

    run(main())


def test_a_pause_that_somebody_called_for_does_not_end_by_itself() -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(10))
            bench.pipeline.pause(stream.stream_id)

            await bench.manual.advance(60)

            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.PAUSED

    run(main())


def test_a_call_for_a_pause_during_a_pause_for_memory_makes_it_one_that_stays() -> None:
    async def main() -> None:
        frame = sample_frame(2000)
        async with Bench() as bench:
            stream = await bench.start(frame, memory_limit_bytes=int(frame.head(1000).estimated_size() / 0.92))
            stream.ask(1)
            await bench.manual.advance(0)
            bench.pipeline.pause(stream.stream_id)
            stream._producer._surplus = stream._producer._surplus.slice(0, 10)  # type: ignore[union-attr]  # room from elsewhere

            await bench.manual.advance(5)

            assert bench.pipeline.get_pipeline_info(stream.stream_id).reason == "call"
            assert bench.pipeline.resume(stream.stream_id).status is Status.RUNNING

    run(main())


def test_a_registered_stream_without_progress_fails_after_its_time() -> None:
    async def main() -> None:
        async with Bench() as bench:
            bench.pipeline.registry.register("outside")
            await bench.start(sample_frame(10))

            await bench.manual.advance(36)

            assert bench.pipeline.get_pipeline_info("outside").reason == "stalled"

    run(main())


def test_when_all_streams_together_hold_too_much_the_largest_is_paused_and_goes_on_later() -> None:
    async def main() -> None:
        frame = sample_frame(10_000)
        chunk_bytes = int(frame.head(1000).estimated_size())
        async with Bench(settings=PipelineSettings(memory_total_bytes=int(chunk_bytes * 1.6))) as bench:
            small = await bench.start(frame, chunk_size=500)
            large = await bench.start(frame, chunk_size=1000)
            await asyncio.gather(small.take(1), large.take(1))

            await bench.manual.advance(1)
            statuses = [bench.pipeline.get_pipeline_info(stream.stream_id).status for stream in (small, large)]
            assert statuses == [Status.RUNNING, Status.PAUSED]
            await small.aclose()
            await bench.manual.advance(5)

            assert bench.pipeline.get_pipeline_info(large.stream_id).status is Status.RUNNING

    run(main())


def test_records_of_ended_streams_are_forgotten_while_others_run() -> None:
    async def main() -> None:
        async with Bench() as bench:
            ended = await bench.start(sample_frame(10))
            await bench.start(sample_frame(10))
            _ = [record async for record in ended]

            await bench.manual.advance(3600)
            assert len(bench.pipeline.list_pipelines()) == 2
            await bench.manual.advance(31)

            assert [info.status for info in bench.pipeline.list_pipelines()] == [Status.RUNNING]

    run(main())


def test_without_streams_there_is_no_monitor() -> None:
    async def main() -> None:
        async with Bench() as bench:
            assert bench.pipeline.supervisor.children == frozenset()
            stream = await bench.start(sample_frame(10))
            assert any(task.get_name() == "health monitor" for task in bench.pipeline.supervisor.children)

            await stream.aclose()

            assert bench.pipeline.supervisor.children == frozenset()

    run(main())


def test_a_monitor_that_breaks_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Bench() as bench:
            stream = await bench.start(sample_frame(10))
            sample, broken = bench.pipeline.monitor.sample, [True]

            def breaks_once() -> None:
                if broken and broken.pop():
                    raise RuntimeError("a bug")
                sample()

            monkeypatch.setattr(bench.pipeline.monitor, "sample", breaks_once)
            await bench.manual.advance(10)

            assert bench.journal.of("health_check")
            assert bench.pipeline.get_pipeline_info(stream.stream_id).status is Status.RUNNING

    run(main())


def test_a_monitor_that_is_given_up_fails_the_streams_instead_of_leaving_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Bench() as bench:
            source = FakeSource(sample_frame(10))
            stream = await bench.start(source)

            def breaks() -> None:
                raise RuntimeError("a bug")

            monkeypatch.setattr(bench.pipeline.monitor, "sample", breaks)
            await bench.manual.advance(15)

            info = bench.pipeline.get_pipeline_info(stream.stream_id)
            assert info.status is Status.FAILED
            assert "health monitor broke again after 10 restarts" in info.reason

    run(main())


# -- the ladder


def test_ladder_climbs_and_descends_at_its_shares() -> None:
    ladder = MemoryLadder(1000, Ladder())

    steps = [ladder.observe(used, timed=True) for used in (799, 800, 899, 900, 850, 800, 799, 800)]

    assert [step.name for step in steps] == ["NORMAL", "DEGRADED", "DEGRADED", "PAUSED", "PAUSED", "PAUSED", "NORMAL", "DEGRADED"]
    assert ladder.used_bytes_max == 900


def test_ladder_kills_only_after_a_pause_and_only_at_a_timed_sample() -> None:
    ladder = MemoryLadder(1000, Ladder())

    steps = [ladder.observe(2000, timed=timed) for timed in (True, False, True)]

    assert [step.name for step in steps] == ["PAUSED", "PAUSED", "KILLED"]
    assert ladder.observe(0, timed=True) is Step.KILLED


@pytest.mark.parametrize(
    ("ladder", "expected"),
    [
        (Ladder(degrade_ratio=None), ["NORMAL", "PAUSED", "KILLED"]),
        (Ladder(pause_ratio=None), ["DEGRADED", "KILLED", "KILLED"]),
        (Ladder(kill_ratio=None), ["DEGRADED", "PAUSED", "PAUSED"]),
        (Ladder(degrade_ratio=None, pause_ratio=None, kill_ratio=None), ["NORMAL", "NORMAL", "NORMAL"]),
        (Ladder(degrade_ratio=0.5, pause_ratio=0.6, kill_ratio=2.0), ["PAUSED", "PAUSED", "PAUSED"]),
    ],
)
def test_ladder_each_step_can_be_moved_or_left_out(ladder: Ladder, expected: list[str]) -> None:
    climbing = MemoryLadder(1000, ladder)

    assert [climbing.observe(used, timed=True).name for used in (850, 960, 960)] == expected


@pytest.mark.parametrize("ratios", [(0.9, 0.8, 0.95), (0.0, 0.5, 0.6), (float("nan"), 0.9, 0.95)])
def test_ladder_that_does_not_rise_is_refused(ratios: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="must rise"):
        Ladder(degrade_ratio=ratios[0], pause_ratio=ratios[1], kill_ratio=ratios[2])


@given(st.lists(st.tuples(st.integers(0, 1500), st.booleans()), max_size=50))
def test_ladder_never_runs_freely_above_a_share_and_never_kills_without_a_pause(samples: list[tuple[int, bool]]) -> None:
    ladder, before = MemoryLadder(1000, Ladder()), Step.NORMAL
    for used, timed in samples:
        step = ladder.observe(used, timed=timed)
        assert step >= (Step.PAUSED if used >= 900 else Step.DEGRADED if used >= 800 else Step.NORMAL)
        if step is Step.KILLED and before is not Step.KILLED:
            assert before is Step.PAUSED
            assert timed
            assert used >= 950
        before = step
