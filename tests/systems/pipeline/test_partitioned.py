"""Aggregates over several processes against the same in one; limits, rejections and every figure exact."""

from __future__ import annotations

import asyncio
import io
import math
import pickle
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.aggregate import FUNCTIONS, Aggregates, Grouping, Snapshot, partitioned
from floodmark.systems.pipeline.aggregate.partitioned import PartitionedAggregates, WorkerGoneError
from floodmark.systems.pipeline.aggregate.worker import packed, packed_frame, serve

GROUPINGS = (
    Grouping(group_by=("k",), aggregations=FUNCTIONS, max_groups=30),
    Grouping(group_by=("j", "k"), aggregations=("sum", "avg", "count"), fields=("x", "deep.y")),
    Grouping(group_by=("j",), aggregations=("count",), max_groups=2, sort="desc"),
)


def frame_of(seed: int, count: int) -> pl.DataFrame:
    generator = random.Random(seed)
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


async def spread(
    batches: Sequence[Any], groupings: Sequence[Grouping], *, workers: int, functions: Sequence[str] = FUNCTIONS
) -> tuple[Any, Snapshot]:
    """Aggregate batches over processes; gives the updates and the snapshot."""
    async with PartitionedAggregates(functions, groupings, partition_count=workers) as aggregates:
        updates = [await aggregates.update(batch) for batch in batches]
        return updates, await aggregates.snapshot()


def alone(batches: Sequence[Any], groupings: Sequence[Grouping], functions: Sequence[str] = FUNCTIONS) -> tuple[Any, Snapshot]:
    """Aggregate batches here."""
    aggregates = Aggregates(functions, groupings)
    return [aggregates.update(batch) for batch in batches], aggregates.snapshot()


@pytest.mark.parametrize("workers", [1, 3])
def test_partitioned_figures_limits_and_rejections_are_those_of_one_process(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioned, "ROWS_SENT", 500)
    batches = [frame_of(seed, 90) for seed in range(20)]

    updates, found = asyncio.run(spread(batches, GROUPINGS, workers=workers))

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

    updates, found = asyncio.run(spread(records, groupings, workers=2))

    assert found == alone(records, groupings)[1]
    assert [update.records for update in updates] == [3, 0, 2]
    assert found.groupings[0].rejected == 2


def test_partitioned_without_groupings_spreads_batches_and_adds_up() -> None:
    batches = [pl.DataFrame({"x": [0.1] * 10, "n": pl.Series([2**127 - 1] * 10, dtype=pl.Int128)})] * 7

    found = asyncio.run(spread(batches, [], workers=2))[1]

    assert found == alone(batches, [])[1]
    assert found.aggregations["sum"] == {"x": 7.0, "n": 70 * (2**127 - 1)}


def test_partitioned_snapshot_between_updates_is_exact_and_changes_nothing() -> None:
    batches = [frame_of(seed, 50) for seed in range(4)]

    async def scenario() -> list[Snapshot]:
        async with PartitionedAggregates(["sum"], GROUPINGS, partition_count=2) as aggregates:
            found = []
            for batch in batches:
                await aggregates.update(batch)
                found.append(await aggregates.snapshot())
            return found

    assert asyncio.run(scenario()) == [alone(batches[: count + 1], GROUPINGS, ["sum"])[1] for count in range(4)]


def test_partitioned_shares_are_spread_by_key_and_each_key_has_one_worker() -> None:
    aggregates = PartitionedAggregates([], GROUPINGS[:1], partition_count=4)

    shares = [{number: set(share["k"]) for number, share in aggregates._shares(frame_of(seed, 500))} for seed in range(3)]

    owners = {(key, number) for share in shares for number, keys in share.items() for key in keys}
    assert len(owners) == len({key for key, _ in owners}) == 41
    assert len({number for _, number in owners}) == 4


def test_partitioned_size_follows_groups_and_waiting_rows() -> None:
    async def scenario() -> tuple[int, int]:
        async with PartitionedAggregates([], GROUPINGS[:1], partition_count=1) as aggregates:
            await aggregates.update(frame_of(1, 1000))
            waiting_bytes = aggregates.size_bytes
            await aggregates.snapshot()
            return waiting_bytes, aggregates.size_bytes

    waiting_bytes, after_bytes = asyncio.run(scenario())

    assert waiting_bytes > after_bytes >= 30 * 600


def test_partitioned_columns_are_those_of_one_process() -> None:
    assert PartitionedAggregates([], GROUPINGS[1:], partition_count=1).columns == Aggregates([], GROUPINGS[1:]).columns


def test_partitioned_worker_that_dies_is_told_and_the_rest_is_cleared_away() -> None:
    async def scenario() -> None:
        async with PartitionedAggregates(["sum"], GROUPINGS, partition_count=2) as aggregates:
            await aggregates.update(frame_of(1, 100))
            aggregates._workers[1].kill()
            await aggregates._workers[1].wait()
            await aggregates.snapshot()

    with pytest.raises(WorkerGoneError) as caught:
        asyncio.run(scenario())

    assert (caught.value.worker, caught.value.exit_code_of_worker) == (1, -9)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_partitioned_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioned, "STOP_LIMIT_S", 0.0)

    async def scenario() -> int | None:
        async with PartitionedAggregates(["sum"], partition_count=1) as aggregates:
            worker = aggregates._workers[0]
        return worker.returncode

    assert asyncio.run(scenario()) is not None


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
