"""Records per second of the pipeline, part by part and whole: `python -m bench.pipeline [--rounds N] [--records N]`.

Rows come from memory (the plan's shape: id, name, value, amount, category of 1,000, timestamp), so that what is measured is the pipeline
and not a database. Beside it stands a bare polars loop that groups the same chunks and keeps nothing: what one would write by hand.
Every figure is wall time, and counts only if every record came out and the figures of all groups are exact.

    aggregates    Aggregates.update alone, and a group-by per chunk by hand
    pipeline      demand, producer, stage, buffers, registry, telemetry, grouped aggregates
    transformer   the same with a Python function per record
    first         milliseconds from the call to the first record
    streams       1,000 streams of 5,000 records at once, with the totals of each checked
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
from rich.console import Console

from bench.measure import Outcome, Reading, take_turns
from bench.processes import BenchError
from bench.table import terminal
from floodmark.systems.pipeline import Pipeline
from floodmark.systems.pipeline.aggregate import Aggregates, Grouping

GROUPS = 1000
GROUPING = Grouping(group_by=("category",), aggregations=("sum", "count", "avg"), fields=("amount",))
STREAMS, STREAM_RECORDS = 1000, 5000


@functools.cache
def chunks(size: int, count: int) -> list[pl.DataFrame]:
    """Make the plan's records, in chunks."""
    numbers = pl.int_range(count, eager=True)
    frame = pl.DataFrame({"id": numbers}).with_columns(
        name=pl.format("Record {}", "id"),
        value=pl.col("id") * 10,
        amount=pl.col("id") * 1.5,
        category=pl.format("group_{}", pl.col("id") % GROUPS),
        timestamp=pl.lit(1_767_225_600_000_000).add(pl.col("id")).cast(pl.Datetime("us")),
    )
    return [chunk.rechunk() for chunk in frame.iter_slices(size)]


def checked(groups: Mapping[Any, Any], count: int) -> str:
    """Compare every group with what it must be; BenchError if one is not."""
    for group in range(GROUPS):
        members = range(group, count, GROUPS)
        total = 1.5 * sum(members)
        wanted = {"sum": {"amount": total}, "count": len(members), "avg": {"amount": total / len(members)}}
        if groups[f"group_{group}"] != wanted:
            raise BenchError(f"group {group} should have {wanted} and has {groups[f'group_{group}']}")
    return f"{count:,} records, {len(groups):,} groups exact"


def by_hand(size: int, count: int) -> Reading:
    """Group every chunk, and keep nothing."""
    rows, seen = chunks(size, count), 0
    wanted = [pl.col("amount").sum(), pl.len(), pl.col("amount").mean().alias("avg")]
    began_s = time.perf_counter()
    for chunk in rows:
        seen += int(chunk.group_by("category").agg(wanted).get_column("len").sum())
    return rated(seen, count, time.perf_counter() - began_s, f"{seen:,} records")


def aggregates(size: int, count: int) -> Reading:
    """Update aggregates with every chunk."""
    rows, figures = chunks(size, count), Aggregates((), [GROUPING])
    began_s = time.perf_counter()
    for chunk in rows:
        figures.update(chunk)
    figures.fold()
    spent_s = time.perf_counter() - began_s
    found = figures.snapshot()
    return rated(found.records, count, spent_s, checked(found.groupings[0].groups, count))


def pipeline(size: int, count: int, **options: Any) -> Reading:
    """Read a whole stream as batches."""

    async def read() -> tuple[int, float, Any]:
        async with Pipeline() as running:
            began_s = time.perf_counter()
            stream_id, stream = await running.start_pipeline(**stream_options(chunks(size, count), size), **options)
            seen = sum([len(batch) async for batch in stream.batches()])
            spent_s = time.perf_counter() - began_s
            return seen, spent_s, running.get_aggregation_snapshot(stream_id)

    seen, spent_s, found = asyncio.run(read())
    return rated(seen, count, spent_s, checked(found.grouped_aggregations[0].groups, count))


def stream_options(rows: list[pl.DataFrame], size: int) -> dict[str, Any]:
    """The options of a measured stream."""
    return {"source": rows, "query": "records", "chunk_size": size, "grouped_aggregations": [GROUPING], "enable_cache": False}


def doubled(record: dict[str, Any]) -> dict[str, Any]:
    """A transformer such as people write."""
    return {**record, "double": record["amount"] * 2}


def first_record(size: int, count: int) -> Reading:
    """Time from the call to the first record, in milliseconds."""

    async def read() -> float:
        async with Pipeline() as running:
            began_s = time.perf_counter()
            _, stream = await running.start_pipeline(**stream_options(chunks(size, count), size))
            record = await anext(stream)
            spent_s = time.perf_counter() - began_s
            if record["id"] != 0:
                raise BenchError(f"the first record should be number 0 and is {record['id']}")
            return spent_s

    return Reading(value=asyncio.run(read()) * 1000, check="record 0")


def many_streams(size: int, streams: int) -> Reading:
    """Read many streams at once; the totals of every one are checked."""
    rows = chunks(size, STREAM_RECORDS)
    total = 1.5 * sum(range(STREAM_RECORDS))

    async def one(running: Pipeline) -> int:
        options = {**stream_options(rows, size), "aggregations": ["sum", "count"], "grouped_aggregations": []}
        stream_id, stream = await running.start_pipeline(**options)
        seen = sum([len(batch) async for batch in stream.batches()])
        found = running.get_aggregation_snapshot(stream_id).aggregations
        if (found["count"], found["sum"]["amount"]) != (STREAM_RECORDS, total):
            raise BenchError(f"a stream has {found} instead of {STREAM_RECORDS} records and {total}")
        return seen

    async def all_of_them() -> tuple[int, float]:
        async with Pipeline() as running:
            began_s = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                reading = [tasks.create_task(one(running)) for _ in range(streams)]
            return sum(task.result() for task in reading), time.perf_counter() - began_s

    seen, spent_s = asyncio.run(all_of_them())
    return rated(seen, streams * STREAM_RECORDS, spent_s, f"{streams:,} streams, totals exact")


def rated(seen: int, wanted: int, spent_s: float, check: str) -> Reading:
    """Make a reading of records per second; BenchError if not every record was there."""
    if seen != wanted:
        raise BenchError(f"{seen:,} of {wanted:,} records came out")
    return Reading(value=wanted / spent_s, check=check)


def outcomes(*, rounds: int, records: int, progress: Callable[[str, int, str], None]) -> list[Outcome]:
    """Measure everything, contenders of one table in turns."""
    tables: list[tuple[str, str, dict[str, Callable[[], Reading]]]] = []
    for size in (1_000, 10_000):
        count = records if size == 1_000 else records * 2
        contenders: dict[str, Callable[[], Reading]] = {
            "whole pipeline": functools.partial(pipeline, size, count),
            "a group-by per chunk by hand": functools.partial(by_hand, size, count),
            "Aggregates.update alone": functools.partial(aggregates, size, count),
        }
        if size == 1_000:
            few = max(records // 5, GROUPS)
            contenders["whole pipeline, a Python transformer per record"] = functools.partial(pipeline, size, few, transformer=doubled)
            contenders["1,000 streams at once"] = functools.partial(many_streams, size, max(STREAMS * records // 1_000_000, 1))
        tables.append((f"Chunks of {size:,}, grouped by 1,000 keys", "records / s", contenders))
    found = [
        Outcome(title=title, unit=unit, better="higher", figures=take_turns(contenders, rounds=rounds, progress=progress))
        for title, unit, contenders in tables
    ]
    first = {"whole pipeline": functools.partial(first_record, 1_000, 10_000)}
    figures = take_turns(first, rounds=rounds, progress=progress)
    return [*found, Outcome(title="First record", unit="ms", better="lower", figures=figures)]


def main(arguments: list[str]) -> int:
    """Measure and print one table; exit code 1 if a figure is missing."""
    parser = argparse.ArgumentParser(prog="bench.pipeline", description="the pipeline beside a bare polars loop")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is measured, in turns (default: 3)")
    parser.add_argument("--records", type=int, default=1_000_000, help="at chunk 1,000; twice as many at 10,000 (default: 1,000,000)")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or chosen.records < 10_000:
        parser.error("--rounds must be at least 1 and --records at least 10,000")

    def progress(contender: str, number: int, said: str) -> None:
        print(f"round {number} of {chosen.rounds}: {contender}: {said}", file=sys.stderr, flush=True)

    measured = outcomes(rounds=chosen.rounds, records=chosen.records, progress=progress)
    Console(width=None if sys.stdout.isatty() else 200).print(terminal(measured))
    return int(any(figure.failure for outcome in measured for figure in outcome.figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
