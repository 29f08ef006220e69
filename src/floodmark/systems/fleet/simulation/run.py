"""Playing seeds: one, or many on all processors, and what they add up to.

Each seed is played in a world of its own; processes share nothing but the list of seeds, so the outcome of a seed is the same wherever it
runs. Left to others: printing (`__main__.py`).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Final

import msgspec

from floodmark.core.parent import die_with_parent
from floodmark.systems.fleet.simulation.defects import put_back
from floodmark.systems.fleet.simulation.plan import plan_for
from floodmark.systems.fleet.simulation.world import Outcome, World

CHUNK_COUNT: Final = 8  # seeds that a process takes at once


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is said instead of drawn; zero and empty leave it to the seed."""

    workers_count: int = 0
    partitions_count: int = 0
    episode: str = ""
    defect: str = ""
    trace: bool = False  # keep every event


class Totals(msgspec.Struct, kw_only=True):
    """What many outcomes add up to."""

    seeds_count: int = 0
    failed_seeds: list[int] = []
    virtual_s: float = 0.0
    steps_count: int = 0
    writes_count: int = 0
    rounds_count: int = 0
    epochs_count: int = 0
    losses_judged_count: int = 0
    losses_hindered_count: int = 0
    loss_late_s_most: float = 0.0
    overlaps_count: int = 0
    overlap_s_total: float = 0.0
    overlap_s_longest: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.seeds_count += 1
        if outcome.violations:
            self.failed_seeds.append(outcome.seed)
        self.rounds_count += sum(outcome.rounds.values())
        for name in ("virtual_s", "steps_count", "writes_count", "epochs_count", "losses_judged_count", "losses_hindered_count"):
            setattr(self, name, getattr(self, name) + getattr(outcome, name))
        self.overlaps_count += outcome.overlaps_count
        self.overlap_s_total += outcome.overlap_s_total
        self.overlap_s_longest = max(self.overlap_s_longest, outcome.overlap_s_longest)
        self.loss_late_s_most = max(self.loss_late_s_most, outcome.loss_late_s_most)


def play(seed: int, wish: Wish | None = None) -> Outcome:
    """Play one seed, with a defect put back if one is wished for."""
    wish = wish or Wish()
    with ExitStack() as stack:
        if wish.defect:
            stack.enter_context(put_back(wish.defect))
        plan = plan_for(seed, workers_count=wish.workers_count, partitions_count=wish.partitions_count, episode=wish.episode)
        return World(plan, trace=wish.trace).run()


def play_many(seeds: Sequence[int], wish: Wish, *, processes_count: int = 0) -> Iterator[Outcome]:
    """Play seeds on all processors, or on so many; outcomes come in the order of the seeds."""
    processes_count = processes_count or os.cpu_count() or 1
    if processes_count == 1 or len(seeds) == 1:
        yield from (play(seed, wish) for seed in seeds)
        return
    chunks = [seeds[at : at + CHUNK_COUNT] for at in range(0, len(seeds), CHUNK_COUNT)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes_count, mp_context=spawn, initializer=die_with_parent) as pool:
        for outcomes in pool.map(_play_chunk, chunks, [wish] * len(chunks)):
            yield from outcomes


def _play_chunk(seeds: Sequence[int], wish: Wish) -> list[Outcome]:
    return [play(seed, wish) for seed in seeds]
