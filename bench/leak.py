"""`python -m bench.leak`: how often the leak verdict is wrong, counted on synthetic traces whose truth is known. The table goes to stdout.

Every kind of `monitor.leak.synthetic` with several leaks and seeds: a million messages, 60-600 s. Exit code 1 on a false alarm (FAIL below
the limit) or a false PASS (a leak at or above it); a row's misses (UNKNOWN above the limit) are counted and printed only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table

from bench import leak_live
from floodmark.model.verdict import Verdict
from floodmark.monitor.leak import judge_leak
from floodmark.monitor.leak.synthetic import KINDS, make

LIMIT_BYTES = 10.0
LEAKS_BYTES = (0.0, 1.0, 5.0, 10.0, 15.0, 30.0, 100.0, 1000.0)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts on one kind of trace with one leak."""

    what: str
    leak: float  # in units of the limit: at or above 1 it must never pass, below 1 never fail
    counts: Counter[Verdict]

    @property
    def wrong(self) -> int:
        """Verdicts that are false, rather than missing."""
        return self.counts[Verdict.PASS if self.leak >= 1 else Verdict.FAIL]


def memory_rows(seeds: range, *, leaks_bytes: tuple[float, ...] = LEAKS_BYTES, limit_bytes: float = LIMIT_BYTES) -> Iterator[Row]:
    """Judge memory: every kind with every leak."""
    for leak in leaks_bytes:
        for kind in KINDS:
            counts: Counter[Verdict] = Counter()
            for seed in seeds:
                trace = make(kind, seed=seed, leak_bytes_per_message=leak)
                only_memory = msgspec.structs.replace(trace, descriptors=None, threads=None)
                counts[judge_leak(only_memory, limit_bytes_per_message=limit_bytes).verdict] += 1
            yield Row(what=f"{kind}, {leak:g} of {limit_bytes:g} B", leak=leak / limit_bytes, counts=counts)


def few_messages_rows(seeds: range) -> Iterator[Row]:
    """Judge memory where the same noise stands against fewer messages."""
    for leak in (0.0, 10.0, 30.0):
        for kind in ("flat", "sawtooth", "trimming", "arenas", "drift"):
            for messages_count in (100_000, 300_000):
                traces = (make(kind, seed=seed, leak_bytes_per_message=leak, messages_count=messages_count) for seed in seeds)
                counts = Counter(judge_leak(msgspec.structs.replace(trace, descriptors=None, threads=None)).verdict for trace in traces)
                yield Row(what=f"{kind}, {messages_count:,} messages", leak=leak / LIMIT_BYTES, counts=counts)


def second_load_rows(seeds: range) -> Iterator[Row]:
    """Judge memory with a second load after a drain, where the first load alone may not settle it."""
    for leak in (0.0, 30.0):
        for kind in ("flat", "warm-up", "long warm-up", "step", "staircase", "doubling"):
            traces = (make(kind, seed=seed, leak_bytes_per_message=leak, second_load=True) for seed in seeds)
            counts = Counter(judge_leak(msgspec.structs.replace(trace, descriptors=None, threads=None)).verdict for trace in traces)
            yield Row(what=f"{kind}, load twice", leak=leak / LIMIT_BYTES, counts=counts)


def descriptor_rows(seeds: range) -> Iterator[Row]:
    """Judge descriptors, with steady memory; the limit is 0.1 per thousand messages."""
    for leak in (0.0, 0.01, 1.0):
        traces = (make("flat", seed=seed, descriptors_per_thousand=leak) for seed in seeds)
        counts = Counter(judge_leak(trace).verdict for trace in traces)
        yield Row(what=f"descriptors, {leak:g} per 1,000 messages", leak=leak / 0.1, counts=counts)


def table(rows: list[Row]) -> Table:
    """Draw the counts, one line per kind and leak."""
    drawn = Table("trace", "leak / limit", "PASS", "FAIL", "UNKNOWN", "wrong")
    for row in rows:
        counts = (str(row.counts[verdict]) for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN))
        drawn.add_row(row.what, f"{row.leak:g}", *counts, str(row.wrong) if row.wrong else "")
    return drawn


def summary(rows: list[Row]) -> Table:
    """Draw the confusion table: what was true against what was said."""
    drawn = Table("truth", "runs", "PASS", "FAIL", "UNKNOWN", "wrong")
    truths = (
        ("below the limit", [row for row in rows if row.leak < 1]),
        ("exactly at the limit", [row for row in rows if row.leak == 1]),
        ("above it, to 3 times", [row for row in rows if 1 < row.leak <= 3]),
        ("10 times the limit and more", [row for row in rows if row.leak > 3]),
    )
    for truth, those in truths:
        counts = sum((row.counts for row in those), Counter[Verdict]())
        said = (str(counts[verdict]) for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN))
        drawn.add_row(truth, str(counts.total()), *said, str(sum(row.wrong for row in those)))
    return drawn


def main(arguments: list[str]) -> int:
    """Judge and print."""
    parser = argparse.ArgumentParser(prog="bench.leak", description="false alarms and misses of the leak verdict")
    parser.add_argument("--seeds", type=int, default=4, help="traces of each kind and leak (default 4)")
    parser.add_argument("--first-seed", type=int, default=1_000, help="the first seed (default 1000)")
    parser.add_argument("--live", type=int, metavar="N", help="judge N runs of real hubs instead, healthy and leaking in turns")
    parser.add_argument("--loads", type=int, choices=(1, 2), default=1, help="of a live run: one of a million, or two of half a million")
    options = parser.parse_args(arguments)
    if options.live is not None:
        if options.live < 1:
            parser.error("--live must be at least 1")
        return leak_live.report(leak_live.run(options.live, loads=options.loads))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    begun_s = time.process_time()
    twice = memory_rows(seeds, leaks_bytes=(10.0,), limit_bytes=5.0)
    rows = [*memory_rows(seeds), *twice, *few_messages_rows(seeds), *second_load_rows(seeds), *descriptor_rows(seeds)]
    console = Console(width=120)
    console.print(table(rows))
    console.print(summary(rows))
    runs, wrong = sum(row.counts.total() for row in rows), sum(row.wrong for row in rows)
    console.print(
        f"{runs} runs, seeds {seeds.start} to {seeds.stop - 1}, {wrong} wrong, {time.process_time() - begun_s:.0f} s of processor time"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
