"""Aggregates over several processes against the same in one; limits, rejections and every figure exact."""

from __future__ import annotations

import asyncio
import functools
import io
import math
import pickle
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import psutil
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline import Pipeline
from floodmark.systems.pipeline.aggregate import FUNCTIONS, Aggregates, Grouping, Snapshot, partitioned
from floodmark.systems.pipeline.aggregate.partitioned import PartitionedAggregates, WorkerGoneError
from floodmark.systems.pipeline.aggregate.worker import packed, packed_frame, serve
from floodmark.systems.pipeline.errors import CallTimeoutError, PipelineError, StreamFailedError
from floodmark.systems.pipeline.source.iterable import IterableSource

LIMIT_S = 30.0
GROUPINGS = (
    Grouping(group_by=("k",), aggregations=FUNCTIONS, max_groups=30),
    Grouping(group_by=("j", "k"), aggregations=("sum", "avg", "count"), fields=("x", "deep.y")),
    Grouping(group_by=("j",), aggregations=("count",), max_groups=2, sort="desc"),
)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop, for no longer than LIMIT_S."""

    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **named), LIMIT_S))

    return run


@functools.cache
def drawn() -> pl.DataFrame:
    """Rows that are drawn value by value, from which frames of any length are drawn: that takes a hundredth of the time."""
    count = 2000
    generator = random.Random(1)
    keys = [generator.choice([None, *range(40)]) for _ in range(count)]
    return pl.DataFrame(
        {
            "k": keys,
            "j": [generator.choice("abc") for _ in range(count)],
            "x": [generator.choice([None, math.nan, generator.uniform(-1e6, 1e6)]) for _ in range(count)],
            "d": [Decimal(generator.randrange(10**6)).scaleb(-2) for _ in range(count)],
            "deep": [{"y": generator.randrange(100)} for _ in range(count)],
            "text": ["never looked at"] * count,
        },
        schema_overrides={"k": pl.Int64},
    )


def frame_of(seed: int, count: int) -> pl.DataFrame:
    return drawn().sample(count, with_replacement=True, seed=seed)


def spread(
    batches: Sequence[Any], groupings: Sequence[Grouping], *, workers: int, functions: Sequence[str] = FUNCTIONS
) -> tuple[Any, Snapshot]:
    """Aggregate batches over processes; gives the updates and the snapshot."""
    with PartitionedAggregates(functions, groupings, partition_count=workers) as aggregates:
        updates = [aggregates.update(batch) for batch in batches]
        return updates, aggregates.snapshot()


def alone(batches: Sequence[Any], groupings: Sequence[Grouping], functions: Sequence[str] = FUNCTIONS) -> tuple[Any, Snapshot]:
    """Aggregate batches here."""
    aggregates = Aggregates(functions, groupings)
    return [aggregates.update(batch) for batch in batches], aggregates.snapshot()


@pytest.mark.parametrize("workers", [1, 3])
def test_partitioned_figures_limits_and_rejections_are_those_of_one_process(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioned, "ROWS_SENT", 500)
    batches = [frame_of(seed, 90) for seed in range(20)]

    updates, found = spread(batches, GROUPINGS, workers=workers)

    wanted_updates, wanted = alone(batches, GROUPINGS)
    assert [[each.rejected for each in update.groupings] for update in updates] == [
        [each.rejected for each in update.groupings] for update in wanted_updates
    ]
    assert found == wanted
    assert [list(each.groups) for each in found.groupings] == [list(each.groups) for each in wanted.groupings]
    assert found.groupings[0].rejected > 0  # or the limit was not tried


def test_partitioned_records_of_changing_types_are_those_of_one_process() -> None:
    records = [[{"k": 1, "x": 2**70}, {"k": "1", "x": 0.5}, {"k": None, "x": Decimal("0.1")}], [], [{"x": True}, {"k": 1, "x": "no"}]]
    groupings = [Grouping(group_by=("k",), aggregations=FUNCTIONS, max_groups=2)]

    updates, found = spread(records, groupings, workers=2)

    assert found == alone(records, groupings)[1]
    assert [update.records for update in updates] == [3, 0, 2]
    assert found.groupings[0].rejected == 2


def test_partitioned_without_groupings_spreads_batches_and_adds_up() -> None:
    batches = [pl.DataFrame({"x": [0.1] * 10, "n": pl.Series([2**127 - 1] * 10, dtype=pl.Int128)})] * 7

    found = spread(batches, [], workers=2)[1]

    assert found == alone(batches, [])[1]
    assert found.aggregations["sum"] == {"x": 7.0, "n": 70 * (2**127 - 1)}


def test_partitioned_snapshot_between_updates_is_exact_and_changes_nothing() -> None:
    batches = [frame_of(seed, 50) for seed in range(4)]

    with PartitionedAggregates(["sum"], GROUPINGS, partition_count=2) as aggregates:
        found = []
        for batch in batches:
            aggregates.update(batch)
            found.append(aggregates.snapshot())

    assert found == [alone(batches[: count + 1], GROUPINGS, ["sum"])[1] for count in range(4)]


def test_partitioned_shares_are_spread_by_key_and_each_key_has_one_worker() -> None:
    aggregates = PartitionedAggregates([], GROUPINGS[:1], partition_count=4)

    shares = [{number: set(share["k"]) for number, share in aggregates._shares(frame_of(seed, 500))} for seed in range(3)]

    owners = {(key, number) for share in shares for number, keys in share.items() for key in keys}
    assert len(owners) == len({key for key, _ in owners}) == 41
    assert len({number for _, number in owners}) == 4


def test_partitioned_size_follows_groups_and_waiting_rows() -> None:
    with PartitionedAggregates([], GROUPINGS[:1], partition_count=1) as aggregates:
        aggregates.update(frame_of(1, 1000))
        waiting_bytes = aggregates.size_bytes
        aggregates.snapshot()
        after_bytes = aggregates.size_bytes

    assert waiting_bytes > after_bytes >= 30 * 600


def test_partitioned_columns_are_those_of_one_process() -> None:
    assert PartitionedAggregates([], GROUPINGS[1:], partition_count=1).columns == Aggregates([], GROUPINGS[1:]).columns


def test_partitioned_worker_that_dies_is_told_with_its_exit_code() -> None:
    with PartitionedAggregates(["sum"], GROUPINGS, partition_count=2) as aggregates:
        aggregates.update(frame_of(1, 100))
        aggregates.snapshot()
        aggregates._workers[1].kill()
        with pytest.raises(WorkerGoneError) as caught:
            aggregates.snapshot()

    assert (caught.value.worker, caught.value.exit_code_of_worker) == (1, -9)
    assert "exit code -9" in str(pickle.loads(pickle.dumps(caught.value)))


def test_partitioned_worker_that_stands_still_is_told_and_killed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with PartitionedAggregates(["sum"], GROUPINGS, partition_count=1) as aggregates:
        aggregates.update(frame_of(1, 100))
        aggregates.snapshot()
        worker = aggregates._workers[0]
        worker.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(partitioned, "ANSWER_LIMIT_S", 0.05)
        with pytest.raises(WorkerGoneError, match=r"has not moved for 0\.05 s"):
            aggregates.snapshot()

    assert worker.returncode == -signal.SIGKILL


@in_loop
async def test_gathered_from_a_worker_that_stands_still_leaves_the_loop_free_and_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with PartitionedAggregates(["sum"], GROUPINGS, partition_count=2) as aggregates:
        aggregates.update(frame_of(1, 100))
        await aggregates.gathered()
        monkeypatch.setattr(partitioned, "ANSWER_LIMIT_S", 0.3)
        aggregates._workers[1].send_signal(signal.SIGSTOP)
        gaps_s: list[float] = []
        watching = asyncio.create_task(watched_gaps(gaps_s))
        with pytest.raises(WorkerGoneError, match=r"aggregation worker 1 has not moved for 0\.3 s"):
            await aggregates.gathered()
        watching.cancel()
        with pytest.raises(WorkerGoneError):  # at once: it is not waited for a second time
            await asyncio.wait_for(aggregates.gathered(), 10.0)

    assert len(gaps_s) > 10
    assert statistics.median(gaps_s) < 0.15  # a loop that is held up turns once


async def watched_gaps(gaps_s: list[float]) -> None:
    """Note how long the loop is away, again and again."""
    loop = asyncio.get_running_loop()
    while True:
        before_s = loop.time()
        await asyncio.sleep(0.01)  # what is measured, not waited for
        gaps_s.append(loop.time() - before_s)


@in_loop
async def test_settled_until_a_worker_that_slept_has_taken_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioned, "ROWS_SENT", 1)
    batches = [frame_of(seed, 20_000) for seed in range(3)]
    with PartitionedAggregates(["sum"], GROUPINGS, partition_count=1) as aggregates:
        aggregates.update(batches[0])
        await aggregates.settled()
        aggregates._workers[0].send_signal(signal.SIGSTOP)
        aggregates.update(batches[1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await aggregates.settled()
        aggregates._workers[0].send_signal(signal.SIGCONT)
        await aggregates.settled()
        aggregates.update(batches[2])
        found = await aggregates.gathered()

    assert found == alone(batches, GROUPINGS, ["sum"])[1]


@in_loop
async def test_peek_at_a_worker_that_stands_still_is_soon_refused_and_exact_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioned, "PEEK_LIMIT_S", 0.05)
    with PartitionedAggregates(["sum"], GROUPINGS, partition_count=2) as aggregates:
        aggregates.update(frame_of(1, 100))
        await aggregates.gathered()
        aggregates._workers[0].send_signal(signal.SIGSTOP)
        aggregates.update(frame_of(2, 100))
        for _ in range(2):
            with pytest.raises(CallTimeoutError, match=r"took longer than 0\.05 s"):
                aggregates.peek()
        aggregates._workers[0].send_signal(signal.SIGCONT)
        found = await aggregates.gathered()
        monkeypatch.setattr(partitioned, "PEEK_LIMIT_S", 10.0)
        peeked = aggregates.peek()

    assert found == peeked == alone([frame_of(1, 100), frame_of(2, 100)], GROUPINGS, ["sum"])[1]


@in_loop
async def test_gathered_by_several_at_once_is_exact_for_each() -> None:
    batches = [frame_of(seed, 500) for seed in range(4)]
    with PartitionedAggregates(["sum"], GROUPINGS, partition_count=2) as aggregates:
        aggregates.update(batches[0])
        tasks = [asyncio.create_task(aggregates.gathered()) for _ in range(4)]
        found = await asyncio.gather(*tasks)

    assert found == [alone(batches[:1], GROUPINGS, ["sum"])[1]] * 4


@in_loop
async def test_close_while_somebody_waits_ends_the_wait() -> None:
    aggregates = PartitionedAggregates(["sum"], GROUPINGS, partition_count=1)
    aggregates.update(frame_of(1, 100))
    await aggregates.gathered()
    aggregates._workers[0].send_signal(signal.SIGSTOP)
    waiting = asyncio.create_task(aggregates.gathered())
    for _ in range(5):
        await asyncio.sleep(0)

    aggregates.close()

    with pytest.raises(PipelineError, match="closed"):
        await asyncio.wait_for(waiting, 5)


def test_pipeline_with_a_worker_that_stands_still_fails_in_time_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[float, str, list[psutil.Process]]:
        loop = asyncio.get_running_loop()
        async with Pipeline() as pipeline:
            source = IterableSource(pl.concat([frame_of(seed, 5000) for seed in range(20)]))
            stream_id, stream = await pipeline.start_pipeline(
                source=source, query="rows", aggregations=["sum"], partition_count=2, chunk_size=5000, max_demand=5000
            )
            taken = 0
            async for batch in stream.batches():
                taken += len(batch)
                if taken >= 40_000:
                    break
            workers = [child for child in psutil.Process().children() if "floodmark.systems.pipeline.aggregate" in child.cmdline()]
            await pipeline.get_aggregation_state(stream_id)  # the workers are there and at work
            monkeypatch.setattr(partitioned, "ANSWER_LIMIT_S", 0.3)
            workers[0].suspend()
            began_s = loop.time()
            with pytest.raises(StreamFailedError, match="aggregation worker 0 has not moved"):
                async for _ in stream.batches():
                    pass
            await source.close()
            return loop.time() - began_s, str(pipeline.get_pipeline_info(stream_id).status.value), workers

    took_s, status, workers = asyncio.run(run())

    assert took_s < 20
    assert status == "failed"
    assert len(workers) == 2
    assert not any(worker.is_running() for worker in workers)


def test_partitioned_more_rows_than_a_pipe_holds_wait_for_the_worker_and_none_is_lost() -> None:
    batches = [frame_of(seed, 30_000) for seed in range(3)]

    found = spread(batches, GROUPINGS, workers=2, functions=["count", "sum"])[1]

    assert found == alone(batches, GROUPINGS, ["count", "sum"])[1]


def test_partitioned_after_close_refuses_rows() -> None:
    aggregates = PartitionedAggregates(["sum"], partition_count=1)
    aggregates.close()
    aggregates.update(pl.DataFrame({"x": [1]}))

    with pytest.raises(PipelineError, match="closed"):
        aggregates.snapshot()


def test_partitioned_over_no_process_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="partition_count"):
        PartitionedAggregates(partition_count=0)


def test_worker_answers_states_of_what_it_was_sent_and_ends_with_its_input() -> None:
    frame = pl.DataFrame({"k": ["a", "b"], "n": [1, 2], "accepted:0": [True, False]})
    told = packed("settings", ("sum",), GROUPINGS[:1]) + packed("rows", packed_frame(frame), {}) + packed("states")
    answers = io.BytesIO()

    serve(io.BytesIO(told), answers)

    record_count, states = pickle.loads(answers.getvalue()[8:])
    merged = Aggregates(["sum"], GROUPINGS[:1])
    merged.merge_states(states, record_count)
    assert merged.snapshot().aggregations == {"sum": {"n": 3}}
    assert list(merged.snapshot().groupings[0].groups) == ["a"]


def pipeline_options(frames: list[pl.DataFrame]) -> dict[str, Any]:
    return {
        "source": frames,
        "query": "rows",
        "aggregations": ["sum", "count"],
        "grouped_aggregations": GROUPINGS,
        "partition_count": 2,
        "chunk_size": 90,
        "enable_cache": False,
    }


def test_pipeline_over_two_processes_has_the_figures_of_one_and_leaves_no_process_behind() -> None:
    frames = [frame_of(seed, 90) for seed in range(10)]

    async def scenario() -> tuple[int, Any]:
        async with Pipeline() as pipeline:
            stream_id, stream = await pipeline.start_pipeline(**pipeline_options(frames))
            count = sum([len(batch) async for batch in stream.batches()])
            return count, pipeline.get_aggregation_snapshot(stream_id)

    count, found = asyncio.run(scenario())

    wanted = alone(frames, GROUPINGS, ["sum", "count"])[1]
    assert (count, found.stable) == (900, True)
    assert (found.aggregations, found.grouped_aggregations) == (wanted.aggregations, wanted.groupings)
    assert not psutil.Process().children()


def test_pipeline_that_loses_a_worker_fails_and_is_never_taken_for_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioned, "ROWS_SENT", 50)

    async def scenario() -> Any:
        async with Pipeline() as pipeline:
            stream_id, stream = await pipeline.start_pipeline(**pipeline_options([frame_of(seed, 90) for seed in range(10)]))
            async for _ in stream.batches():
                for child in psutil.Process().children():
                    child.kill()
            return pipeline.get_pipeline_info(stream_id)

    with pytest.raises(StreamFailedError, match="aggregation worker"):
        asyncio.run(scenario())


def test_worker_process_reads_from_stdin_and_ends_with_it() -> None:
    frame = pl.DataFrame({"k": ["a", "b", "a"], "n": [1, 2, 3], "accepted:0": [True, True, True]})
    told = packed("settings", ("sum",), GROUPINGS[:1]) + packed("rows", packed_frame(frame), {}) + packed("states")

    done = subprocess.run([sys.executable, "-m", partitioned.WORKER], input=told, capture_output=True, timeout=LIMIT_S, check=True)

    record_count, states = pickle.loads(done.stdout[8:])
    merged = Aggregates(("sum",), GROUPINGS[:1], limited=False)
    merged.merge_states(states, record_count)
    assert merged.snapshot().aggregations["sum"]["n"] == 6
    assert set(merged.snapshot().groupings[0].groups) == {"a", "b"}
