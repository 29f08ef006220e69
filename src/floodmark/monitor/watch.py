"""Sample several process trees at an interval, while a run goes on, and keep what was seen within a bounded memory.

`run()` is the body of a task for the caller's TaskGroup; cancelling it loses nothing. Sampling is a few reads of /proc on the
caller's loop, about a tenth of a millisecond per process; `cost` says what it really was. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from floodmark.core.errors import UsageError
from floodmark.monitor.process import ProcessTree
from floodmark.monitor.sample import Peak, ProcessSample, SystemSample
from floodmark.monitor.series import Series
from floodmark.monitor.system import sample_system

SHORTEST_INTERVAL_S = 0.1
UNIQUE_INTERVAL_S = 2.0
CAPACITY_COUNT = 20_000
MARKS_COUNT = 1_000


class Row(NamedTuple):
    """One line of the samples table, ready for a data frame."""

    t_ns: int
    tree: str
    resident_bytes: int
    unique_bytes: int | None
    high_water_bytes: int | None
    cpu_s: float
    descriptors: int | None
    threads: int
    processes: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the run, with a sample of every tree taken at that moment."""

    label: str
    t_ns: int
    samples: dict[str, ProcessSample | None]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What watching took from the process that watches."""

    samples: int
    busy_s: float
    longest_s: float


class Watch:
    """Watches named trees, such as "target" and "harness".

    A tree inside another one, such as a target that the harness has started, counts for itself only.

    Args:
        trees: name -> root PID, or a tree made before.
        interval_s: between samples, at least 0.1.
        unique: also read unique memory, at most every 2 s.
        clock: nanoseconds, the clock of the run's other records.
    """

    def __init__(
        self,
        trees: Mapping[str, ProcessTree | int],
        *,
        interval_s: float = 0.5,
        unique: bool = True,
        capacity_count: int = CAPACITY_COUNT,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if not SHORTEST_INTERVAL_S <= interval_s < math.inf:
            raise UsageError(
                f"interval_s must be finite and at least {SHORTEST_INTERVAL_S:g} s, got {interval_s!r}: sampling faster disturbs the target"
            )
        self._interval_s, self._unique, self._capacity_count, self._clock = interval_s, unique, capacity_count, clock
        self._unique_ns: int | None = None
        self._trees: dict[str, ProcessTree] = {}
        self._series: dict[str, Series[ProcessSample]] = {}
        self._peaks: dict[str, Peak] = {}
        self._latest: dict[str, ProcessSample] = {}
        self._system: Series[SystemSample] = Series(capacity_count)
        self._marks: list[Mark] = []
        self.marks_dropped = 0
        self._busy_s = self._longest_s = 0.0
        self._looks = 0
        for name, tree in trees.items():
            self.follow(name, tree)

    def follow(self, name: str, tree: ProcessTree | int) -> None:
        """Add a tree, or replace one whose root was restarted.

        Its samples and peaks go on under the same name; `cpu_s` begins anew with the new root.
        """
        self._trees[name] = tree if isinstance(tree, ProcessTree) else ProcessTree(tree)
        self._series.setdefault(name, Series(self._capacity_count))

    async def run(self) -> None:
        """Sample now and then every interval_s, until cancelled."""
        due_ns = self._clock()
        while True:
            self.sample_now(self._clock())
            # A late sample is not made up for by a burst of others: the next one keeps to the grid.
            late_ns = self._clock() - due_ns
            step_ns = int(self._interval_s * 1e9)
            due_ns += step_ns * (1 + late_ns // step_ns)
            await asyncio.sleep((due_ns - self._clock()) / 1e9)

    def sample_now(self, now_ns: int) -> dict[str, ProcessSample | None]:
        """Sample every tree and the machine at once; None for a tree that is gone."""
        begun_s = time.perf_counter()
        unique = self._unique and (self._unique_ns is None or now_ns - self._unique_ns >= UNIQUE_INTERVAL_S * 1e9)
        if unique:
            self._unique_ns = now_ns
        roots = frozenset(tree.pid for tree in self._trees.values())
        found = {name: tree.sample(now_ns, unique=unique, apart=roots) for name, tree in self._trees.items()}
        for name, sample in found.items():
            if sample is not None:
                self._series[name].add(sample)
                self._latest[name] = sample
                self._peaks[name] = _raised(self._peaks.get(name), sample)
        self._system.add(sample_system(now_ns))
        took_s = time.perf_counter() - begun_s
        self._looks += 1
        self._busy_s += took_s
        self._longest_s = max(self._longest_s, took_s)
        return found

    def mark(self, label: str, now_ns: int) -> None:
        """Note an event and sample at once, so that `at(label)` is exact. Beyond 1,000 marks they are counted in `marks_dropped` only."""
        if len(self._marks) >= MARKS_COUNT:
            self.marks_dropped += 1
            return
        self._marks.append(Mark(label=label, t_ns=now_ns, samples=self.sample_now(now_ns)))

    def at(self, label: str) -> Mark | None:
        """Return the latest mark of that label; None when there is none."""
        return next((mark for mark in reversed(self._marks) if mark.label == label), None)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks, oldest first."""
        return tuple(self._marks)

    def peak(self, tree: str) -> Peak | None:
        """Return the largest figures of a tree; None when it was never seen alive."""
        return self._peaks.get(tree)

    def latest(self, tree: str) -> ProcessSample | None:
        """Return the newest sample of a tree, thinned out of the kept ones or not; None when it was never seen alive."""
        return self._latest.get(tree)

    def rows(self) -> list[Row]:
        """Return the kept samples of all trees, tree by tree, oldest first."""
        return [Row(tree=name, **msgspec.structs.asdict(sample)) for name, series in self._series.items() for sample in series]

    def system(self) -> tuple[SystemSample, ...]:
        """Return the kept samples of the machine, oldest first."""
        return tuple(self._system)

    @property
    def cost(self) -> Cost:
        """What watching has taken so far."""
        return Cost(samples=self._looks, busy_s=self._busy_s, longest_s=self._longest_s)


def _larger(known: int | None, new: int | None) -> int | None:
    return new if known is None else known if new is None else max(known, new)


def _raised(peak: Peak | None, sample: ProcessSample) -> Peak:
    """Return the peak with one more sample in it."""
    sampled = max(peak.sampled_bytes if peak else 0, sample.resident_bytes)
    high_water = _larger(peak.high_water_bytes if peak else None, sample.high_water_bytes)
    return Peak(
        resident_bytes=max(sampled, high_water or 0),
        sampled_bytes=sampled,
        high_water_bytes=high_water,
        unique_bytes=_larger(peak.unique_bytes if peak else None, sample.unique_bytes),
        cpu_s=max(peak.cpu_s if peak else 0.0, sample.cpu_s),
        descriptors=_larger(peak.descriptors if peak else None, sample.descriptors),
        threads=max(peak.threads if peak else 0, sample.threads),
        processes=max(peak.processes if peak else 0, sample.processes),
        samples=(peak.samples if peak else 0) + 1,
        covers=_covers(sampled, high_water),
    )


def _covers(sampled_bytes: int, high_water_bytes: int | None) -> str:
    """Say what a peak of resident memory stands for, as neither figure sees everything."""
    if high_water_bytes is None:
        return "largest sample; a peak between two samples is missed, as the kernel's own high-water mark was unreadable"
    if high_water_bytes > sampled_bytes:
        return "high-water mark of the largest single process since it started, also before the run and between samples"
    return "largest sample of all processes together; a peak of several processes at once between two samples is missed"
