"""What it costs to share partitions among workers, how even the shares are, and how much moves when one more worker comes.

`python -m bench fleet-strategies`: the shapes of the requirements, equal weights, random ones, and a tenth of the partitions five times as
heavy. Time is CPU time of one assignment by a strategy that has made its ring, and of the first one, which makes it. Every assignment is
checked: each partition once, and nothing left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from bench.processes import BenchError
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy import STRATEGIES, Strategy

Shares = Mapping[str, Sequence[Partition]]
SHAPES = ((16, 1_000), (64, 5_000), (128, 10_000), (1_000, 100_000))
SKEW_RATIO, SKEW_FACTOR = 0.1, 5


class Row(NamedTuple):
    """What one strategy did with one shape."""

    first_ms: float
    again_ms: tuple[float, ...]
    heaviest: float  # times the mean load
    lightest: float
    moved: float  # on one more worker, times the ideal


def equal(count: int) -> list[Partition]:
    """All of the same weight."""
    return [Partition(keys=(f"p{number}",)) for number in range(count)]


def random(count: int) -> list[Partition]:
    """Weights of 1 to 100, drawn."""
    draw = Random(1)
    return [Partition(keys=(f"p{number}",), weight=draw.randint(1, 100)) for number in range(count)]


def skewed(count: int) -> list[Partition]:
    """A tenth of them five times as heavy."""
    heavy = set(Random(1).sample(range(count), int(count * SKEW_RATIO)))
    return [Partition(keys=(f"p{number}",), weight=100 * (SKEW_FACTOR if number in heavy else 1)) for number in range(count)]


WEIGHTS: dict[str, Callable[[int], list[Partition]]] = {"equal": equal, "random": random, "skewed": skewed}


def measure(name: str, workers: Sequence[str], partitions: Sequence[Partition], rounds: int) -> Row:
    """Share them, again and again, and once more with one worker more."""
    strategy = STRATEGIES[name]()
    first_ms, before = _timed(strategy, workers, partitions, {})
    again_ms = tuple(_timed(strategy, workers, partitions, before)[0] for _ in range(rounds))
    _, after = _timed(strategy, [*workers, f"worker-{len(workers)}"], partitions, before)
    owner = {partition.keys: worker for worker, theirs in before.items() for partition in theirs}
    moved_count = sum(owner[partition.keys] != worker for worker, theirs in after.items() for partition in theirs)
    loads = [sum(partition.weight for partition in theirs) for theirs in before.values()]
    mean = statistics.fmean(loads)
    ideal_count = len(partitions) / (len(workers) + 1)
    return Row(first_ms, again_ms, max(loads) / mean, min(loads) / mean, moved_count / ideal_count)


def _timed(strategy: Strategy, workers: Sequence[str], partitions: Sequence[Partition], current: Shares) -> tuple[float, Shares]:
    began_s = time.process_time()
    shares = strategy.assign(workers, partitions, current)
    spent_ms = 1000 * (time.process_time() - began_s)
    given = [partition.keys for theirs in shares.values() for partition in theirs]
    if len(given) != len(partitions) or len(set(given)) != len(partitions):
        raise BenchError(f"shares do not add up: {len(given):,} given away, {len(set(given)):,} different ones, of {len(partitions):,}")
    return spent_ms, shares


def main(arguments: list[str]) -> int:
    """Print one line per shape, weights and strategy."""
    parser = argparse.ArgumentParser(prog="bench fleet-strategies", description="the cost and the quality of sharing partitions")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of partitions")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or not 0 < chosen.scale <= 1:
        parser.error("--rounds must be at least 1, and --scale above 0 and at most 1")
    print(
        "| workers | partitions | weights | strategy | first, CPU ms | again, CPU ms, median | heaviest / mean | lightest | moved on +1 |"
    )
    print("|--:|--:|---|---|--:|--:|--:|--:|--:|")
    failed = False
    for worker_count, full_count in SHAPES:
        count = max(1, int(full_count * chosen.scale))
        workers = [f"worker-{number}" for number in range(worker_count)]
        for weights, make in WEIGHTS.items():
            partitions = make(count)
            for name in STRATEGIES:
                print(f"{worker_count} workers, {count:,} partitions, {weights}: {name}", file=sys.stderr, flush=True)
                line = f"| {worker_count:,} | {count:,} | {weights} | {name} |"
                try:
                    row = measure(name, workers, partitions, chosen.rounds)
                except BenchError as exc:
                    failed = True
                    print(f"{line} no figure: {exc} | | | | |")
                    continue
                again_ms = statistics.median(row.again_ms)
                print(f"{line} {row.first_ms:.1f} | {again_ms:.1f} | {row.heaviest:.2f} | {row.lightest:.2f} | {row.moved:.2f}x |")
    return int(failed)
