"""How fast the simulation plays: seeds a minute, virtual time and steps per second of the processor, on one process and on all.

`python -m bench fleet-simulation [--seeds N] [--workers N --partitions N]`. A seed counts when it was judged to its end: one violation, and
there is no figure. With `--workers` it is one fleet of that size on the seed 0, in a calm climate or not as the seed says.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from typing import NamedTuple

from floodmark.systems.fleet.simulation.run import Totals, Wish, play_many

LEAST_SEEDS_PER_MINUTE = 400  # 2,000 seeds in 5 minutes


class Reading(NamedTuple):
    """One run."""

    processes_count: int
    took_s: float
    cpu_s: float
    totals: Totals

    @property
    def seeds_per_minute(self) -> float:
        return 60 * self.totals.seeds_count / self.took_s


def measure(seeds: range, processes_count: int, wish: Wish | None = None) -> Reading:
    """Play the seeds."""
    totals, began_s, cpu_s = Totals(), time.monotonic(), _cpu_s()
    for outcome in play_many(seeds, wish or Wish(), processes_count=processes_count):
        totals.add(outcome)
    return Reading(processes_count, time.monotonic() - began_s, _cpu_s() - cpu_s, totals)


def _cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime for used in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main(arguments: list[str]) -> int:
    """Measure, and print one line per run. Returns: 1 when a seed had a violation, or it was too slow."""
    parser = argparse.ArgumentParser(prog="bench fleet-simulation", description="the fleet's simulation, in seeds a minute")
    parser.add_argument("--seeds", type=int, default=400, help="how many (default: 400)")
    parser.add_argument("--workers", type=int, default=0, help="one fleet of this size instead of many small ones")
    parser.add_argument("--partitions", type=int, default=0)
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1 or chosen.workers < 0 or chosen.partitions < 0:
        parser.error("--seeds must be at least 1, --workers and --partitions 0 or more")
    large = chosen.workers > 0
    wish = Wish(workers_count=chosen.workers, partitions_count=chosen.partitions, episode="crash" if large else "")
    runs = [1] if large else sorted({1, os.cpu_count() or 1})
    readings = [measure(range(1 if large else chosen.seeds), count, wish) for count in runs]
    for reading in readings:
        totals = reading.totals
        print(
            f"{totals.seeds_count} seeds on {reading.processes_count} processes: {reading.seeds_per_minute:,.0f} seeds a minute; "
            f"{totals.virtual_s / reading.cpu_s:,.0f} virtual seconds, {totals.steps_count / reading.cpu_s:,.0f} steps and "
            f"{totals.writes_count / reading.cpu_s:,.0f} writes per CPU-second; {len(totals.failed_seeds)} with a violation"
        )
    slow = not large and readings[-1].seeds_per_minute < LEAST_SEEDS_PER_MINUTE
    return int(slow or any(reading.totals.failed_seeds for reading in readings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
