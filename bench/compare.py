"""How often `floodmark compare` accuses the innocent, and how often it finds the guilty.

    python -m bench.compare                    simulated runs, with noise of heavy tails
    python -m bench.compare RUNS_FOLDER        runs that were all made alike, such as 30 times the same scenario

Simulated: the noise of each figure is Student's t with two degrees of freedom, whose variance is infinite, on a logarithmic scale; on top
of it every tenth run is a bad one, in which all times are worse by a half. `calm` and `busy` are how far figures vary, the latter as
measured on a machine with two busy cores (`docs/baselines.md`). Real: each run is taken with its neighbours, as they came (what drifts
between two sessions is in there), and 200 times by lot.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from floodmark.judge.compare import compare
from floodmark.judge.comparison import Change, Compared, Wish
from floodmark.judge.repetitions import Gathered, Run, gather
from floodmark.model.baseline import Baseline, Figure, Host, Played, Subject
from floodmark.model.gauges import GAUGES
from floodmark.model.verdict import Verdict
from floodmark.report.compare_runs import read_run
from floodmark.report.folder import RunFolder

PAIRS = 200
SCENARIOS = ("sim.one", "sim.two")
FREEDOM = 2.0
BAD_RUN_SHARE = 0.1
BAD_RUN_FACTOR = 1.5
HOST = Host(cpu="simulated", cores=2)


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure behaves: its usual value, how far it varies on a calm and on a busy machine (logarithms), how a slowdown moves it."""

    value: float
    calm: float
    busy: float
    slows: float = 0.0  # 1: grows with the slowdown, -1: shrinks with it


KINDS: dict[str, Kind] = {
    "throughput": Kind(value=80_000.0, calm=0.02, busy=0.4, slows=-1.0),
    "latency_p50": Kind(value=0.004, calm=0.03, busy=0.45, slows=1.0),
    "latency_p99": Kind(value=0.02, calm=0.06, busy=0.55, slows=1.0),
    "service_latency_p50": Kind(value=0.003, calm=0.03, busy=0.5, slows=1.0),
    "service_latency_p99": Kind(value=0.015, calm=0.06, busy=0.55, slows=1.0),
    "cpu_per_delivery": Kind(value=6e-6, calm=0.02, busy=0.07, slows=1.0),
    "rss_peak": Kind(value=5e7, calm=0.001, busy=0.001),
    "rss_per_connection": Kind(value=5e4, calm=0.02, busy=0.06),
    "fds_peak": Kind(value=60.0, calm=0.0, busy=0.0),
}


def simulated(rng: np.random.Generator, name: str, count: int, *, noise: str, slowdown: float = 1.0) -> Baseline:
    """Make up `count` repetitions of two scenarios."""
    runs = tuple(f"{name}-{number}" for number in range(count))
    scenarios: dict[str, Subject] = {}
    for scenario in SCENARIOS:
        bad = np.where(rng.random(count) < BAD_RUN_SHARE, BAD_RUN_FACTOR, 1.0)
        figures: dict[str, Figure] = {}
        for metric, kind in KINDS.items():
            spread = kind.calm if noise == "calm" else kind.busy
            drawn = kind.value * np.exp(spread * rng.standard_t(FREEDOM, count) / np.sqrt(2)) * (slowdown * bad) ** kind.slows
            gauge = GAUGES[metric]
            figures[metric] = Figure(
                better=gauge.better, dimension=gauge.dimension, values=tuple(map(float, drawn)), spreads=(None,) * count
            )
        scenarios[scenario] = Subject(scale=1.0, configuration="simulated", target="simulated", runs=runs, figures=figures)
    played = tuple(Played(run=run, started=f"{number:06}", version="0", seed=number) for number, run in enumerate(runs))
    return Baseline(name=name, machine=HOST, runs=played, scenarios=scenarios)


def trials(
    *, noise: str, repetitions: tuple[int, int], slowdown: float, pairs: int = PAIRS, seed: int = 1, wish: Wish | None = None
) -> list[Compared]:
    """Compare made-up pairs of runs."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(pairs):
        before = simulated(rng, "before", repetitions[0], noise=noise)
        now = simulated(rng, "now", repetitions[1], noise=noise, slowdown=slowdown)
        found.append(compare(before, Gathered(baseline=now), wish or Wish()))
    return found


def tally(found: Iterable[Compared]) -> Counter[Verdict]:
    """How often each verdict was given."""
    return Counter(one.verdict for one in found)


def false_same(found: Iterable[Compared], *, slowdown: float) -> float:
    """Of the figures that a slowdown moved beyond their tolerance, the share that was called the same, or no worse."""
    moved = [
        row
        for one in found
        for row in one.comparisons
        if row.metric in KINDS and KINDS[row.metric].slows and slowdown > 1 + GAUGES[row.metric].tolerance_ratio
    ]
    return sum(row.is_no_worse for row in moved) / len(moved) if moved else 0.0


def windows(runs: Sequence[Run], count: int) -> list[Compared]:
    """Each stretch of runs, as they came, with the stretch right after it."""
    return [_pair(runs[first : first + count], runs[first + count : first + 2 * count]) for first in range(len(runs) - 2 * count + 1)]


def lots(runs: Sequence[Run], count: int, *, pairs: int = PAIRS, seed: int = 1) -> list[Compared]:
    """Runs taken by lot."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(len(runs))[: 2 * count] for _ in range(pairs)]
    return [_pair([runs[place] for place in order[:count]], [runs[place] for place in order[count:]]) for order in drawn]


def _pair(before: Sequence[Run], now: Sequence[Run]) -> Compared:
    return compare(gather("before", before).baseline, gather("now", now))


def _line(what: str, found: Sequence[Compared], slowdown: float = 1.0) -> str:
    seen = tally(found)
    wrong = sum(row.verdict is Change.WORSE for one in found for row in one.comparisons)
    rows = sum(row.metric in GAUGES for one in found for row in one.comparisons)
    share = f"{false_same(found, slowdown=slowdown):.1%}" if slowdown > 1 else ""
    cells = (what, f"{len(found)}", *(f"{seen[one] / len(found):.1%}" for one in (Verdict.FAIL, Verdict.UNKNOWN, Verdict.PASS)))
    return f"| {' | '.join(cells)} | {wrong} of {rows} | {share} |"


CASES = (
    *((1.0, repetitions) for repetitions in ((5, 5), (8, 8), (8, 2), (8, 1))),
    *((1.2, repetitions) for repetitions in ((5, 5), (8, 8))),
    *((1.5, repetitions) for repetitions in ((5, 5), (8, 8), (8, 1))),
    (3.0, (8, 1)),
)
HEAD = (
    "| runs | pairs | a regression | cannot be told | no regression | figures called worse | moved ones called no worse |\n"
    "|---|--:|--:|--:|--:|--:|--:|"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="bench compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=Path, help="a folder of runs that were all made alike")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    chosen = parser.parse_args(arguments)
    print(HEAD)
    if chosen.runs is not None:
        runs = [read_run(RunFolder(path.parent)) for path in sorted(chosen.runs.glob("[0-9]*/run.json"))]
        for count in (1, 5, 6, 8):
            print(_line(f"{count} and {count} neighbours", windows(runs, count)), flush=True)
            print(_line(f"{count} and {count} by lot", lots(runs, count, pairs=chosen.pairs)), flush=True)
        return 0
    for noise in ("calm", "busy"):
        for slowdown, repetitions in CASES:
            said = "alike" if slowdown == 1 else f"{slowdown - 1:.0%} slower"
            found = trials(noise=noise, repetitions=repetitions, slowdown=slowdown, pairs=chosen.pairs)
            print(_line(f"{noise}, {repetitions[0]} and {repetitions[1]}, {said}", found, slowdown), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
