"""`python -m bench.leak`: how often the leak verdict is wrong, counted on synthetic traces whose truth is known. The tables go to stdout.

Kinds of `monitor.leak.synthetic` with several leaks and seeds, 60-600 s, played once or twice: the six that any process may show or, with
`--all`, every one. Exit code 1 on a false alarm (FAIL below the limit) or a false PASS (a leak at or above it); misses (UNKNOWN above the
limit) are counted and printed only. `--live N` does the same with real hubs (`bench/leak_live.py`); there a miss counts as wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from rich.console import Console
from rich.table import Table

from bench import leak_live
from floodmark.model.verdict import Verdict
from floodmark.monitor.leak import Trace, judge_leak
from floodmark.monitor.leak.synthetic import KINDS, make

SAID = (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN)
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


def memory_rows(seeds: range, *, limit_bytes: float = LIMIT_BYTES) -> Iterator[Row]:
    """Judge memory: every kind with every leak."""
    for leak in LEAKS_BYTES:
        for kind in KINDS:
            counts: Counter[Verdict] = Counter()
            for seed in seeds:
                trace = make(kind, seed=seed, leak_bytes_per_message=leak)
                counts[judged(trace, limit_bytes=limit_bytes)] += 1
            yield Row(what=f"{kind}, {leak:g} of {limit_bytes:g} B", leak=leak / limit_bytes, counts=counts)


def few_messages_rows(seeds: range) -> Iterator[Row]:
    """Judge memory where the same noise stands against fewer messages."""
    for leak in (0.0, 10.0, 30.0):
        for kind in ("flat", "sawtooth", "trimming", "arenas", "drift"):
            for messages_count in (100_000, 300_000):
                traces = (make(kind, seed=seed, leak_bytes_per_message=leak, messages_count=messages_count) for seed in seeds)
                counts = Counter(judged(trace) for trace in traces)
                yield Row(what=f"{kind}, {messages_count:,} messages", leak=leak / LIMIT_BYTES, counts=counts)


PROTOCOLS: dict[str, tuple[int, bool]] = {
    "one load of 1 M": (1_000_000, False),
    "two loads of 500,000": (500_000, True),
    "two loads of 1 M": (1_000_000, True),
}
USUAL = {
    "flat": "flat",
    "warm-up": "warm-up",
    "sawtooth": "sawtooth",
    "step": "step",
    "arenas": "allocator noise",
    "long warm-up": "cache that fills",
}
SUITE_LIMIT_BYTES = 5.0
SUITE_LEAKS_BYTES = (0.0, 1.0, 5.0, 10.0, 20.0, 100.0)


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts under one protocol with one leak, over kinds of trace."""

    protocol: str
    leak_bytes: float
    row: Row
    by_kind: dict[str, Counter[Verdict]]


def suite_rates(seeds: range, kinds: Iterable[str]) -> Iterator[Rates]:
    """Judge memory as suites do: a limit of 5 bytes, for leaks that must and must not be found."""
    for protocol, (messages_count, second_load) in PROTOCOLS.items():
        for leak in SUITE_LEAKS_BYTES:
            by_kind: dict[str, Counter[Verdict]] = {}
            for kind in kinds:
                options = {"leak_bytes_per_message": leak, "messages_count": messages_count, "second_load": second_load}
                traces = (make(kind, seed=seed, **options) for seed in seeds)  # type: ignore[arg-type]
                by_kind[kind] = Counter(judged(trace, limit_bytes=SUITE_LIMIT_BYTES) for trace in traces)
            counts = sum(by_kind.values(), Counter[Verdict]())
            row = Row(what=f"{protocol}, {leak:g} B", leak=leak / SUITE_LIMIT_BYTES, counts=counts)
            yield Rates(protocol=protocol, leak_bytes=leak, row=row, by_kind=by_kind)


def judged(trace: Trace, *, limit_bytes: float = LIMIT_BYTES) -> Verdict:
    """The verdict on a trace's memory."""
    return judge_leak(msgspec.structs.replace(trace, descriptors=None, threads=None), limit_bytes_per_message=limit_bytes).verdict


def rates_table(rates: list[Rates]) -> Table:
    """Draw PASS / FAIL / UNKNOWN in percent of all traces, and as counts for each kind."""
    kinds = list(rates[0].by_kind)
    drawn = Table("protocol", "leak, B", "traces", "PASS %", "FAIL %", "UNKNOWN %", "wrong", *(USUAL.get(kind, kind) for kind in kinds))
    for each in rates:
        total = each.row.counts.total()
        shares = (f"{100 * each.row.counts[verdict] / total:.1f}" for verdict in SAID)
        cells = ("/".join(str(each.by_kind[kind][verdict]) for verdict in SAID) for kind in kinds)
        drawn.add_row(each.protocol, f"{each.leak_bytes:g}", str(total), *shares, str(each.row.wrong) if each.row.wrong else "", *cells)
    return drawn


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
        counts = (str(row.counts[verdict]) for verdict in SAID)
        drawn.add_row(row.what, f"{row.leak:g}", *counts, str(row.wrong) if row.wrong else "")
    return drawn


def summary(rows: list[Row]) -> Table:
    """Draw the confusion table: what was true against what was said."""
    drawn = Table("truth", "runs", "PASS", "FAIL", "UNKNOWN", "wrong")
    truths = (
        ("below the limit", [row for row in rows if row.leak < 1]),
        ("exactly at the limit", [row for row in rows if row.leak == 1]),
        ("above it, to 3 times", [row for row in rows if 1 < row.leak <= 3]),
        ("4 times the limit and more", [row for row in rows if row.leak > 3]),
    )
    for truth, those in truths:
        counts = sum((row.counts for row in those), Counter[Verdict]())
        said = (str(counts[verdict]) for verdict in SAID)
        drawn.add_row(truth, str(counts.total()), *said, str(sum(row.wrong for row in those)))
    return drawn


def main(arguments: list[str]) -> int:
    """Judge and print."""
    parser = argparse.ArgumentParser(prog="bench.leak", description="false alarms and misses of the leak verdict")
    parser.add_argument("--seeds", type=int, default=6, help="traces of each kind and leak (default 6)")
    parser.add_argument("--all", action="store_true", help="every kind of trace, other limits, fewer messages and descriptors too")
    parser.add_argument("--first-seed", type=int, default=1_000, help="the first seed (default 1000)")
    parser.add_argument("--live", type=int, metavar="N", help="judge N runs of real hubs instead, healthy and leaking in turns")
    parser.add_argument(
        "--loads", type=int, choices=(1, 2), default=2, help="one of a million messages, or two of half a million (default)"
    )
    options = parser.parse_args(arguments)
    if options.live is not None:
        if options.live < 1:
            parser.error("--live must be at least 1")
        return leak_live.report(leak_live.run(options.live, loads=options.loads))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    begun_s = time.process_time()
    console = Console(width=200)
    usual = list(suite_rates(seeds, USUAL))
    console.print(rates_table(usual))
    rows = [each.row for each in usual]
    if options.all:
        others = list(suite_rates(seeds, [kind for kind in KINDS if kind not in USUAL]))
        console.print(rates_table(others))
        more = [*memory_rows(seeds), *few_messages_rows(seeds), *descriptor_rows(seeds)]
        console.print(table(more))
        rows += [*(each.row for each in others), *more]
    console.print(summary(rows))
    runs, wrong = sum(row.counts.total() for row in rows), sum(row.wrong for row in rows)
    console.print(
        f"{runs} runs, seeds {seeds.start} to {seeds.stop - 1}, {wrong} wrong, {time.process_time() - begun_s:.0f} s of processor time"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
