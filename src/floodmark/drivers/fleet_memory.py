"""What a fleet costs in memory: levels measured from outside while workers or partitions are added, and the slope over them.

A level is one number of workers and partitions; its point is the mean of all looks at it, since looks at one level are not independent
of each other. The slope is an ordinary least-squares line over the points, its interval the 95 % one by Student's t: with five levels
that is honestly wide. Fewer than three levels have no interval, and so no figure. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from floodmark.drivers.fleet_notes import MARK, MEMORY_MARK
from floodmark.drivers.fleet_record import Record

LEVELS_LEAST = 3
QUARTERS_LEAST = 8
CONFIDENCE = 0.95


class Look(NamedTuple):
    """One look at all workers."""

    at_s: float
    workers: int
    partitions: int
    resident_bytes: int
    tasks: int
    processes: int


class Slope(NamedTuple):
    """Growth per unit, with the ends of its interval."""

    mean: float
    lower: float
    upper: float


def looks_of(record: Record) -> list[Look]:
    """The looks that the driver noted, in order."""
    found = []
    for note in record.of(MARK):
        value = note.value or {}
        if note.key == MEMORY_MARK and value.get("bytes"):
            found.append(
                Look(
                    note.at_s,
                    int(value.get("workers", 0)),
                    int(value.get("partitions", 0)),
                    int(value["bytes"]),
                    int(value.get("tasks", 0)),
                    int(value.get("processes", 0)),
                )
            )
    return found


def slope_of(points: dict[int, list[int]]) -> Slope | None:
    """The slope over levels (level -> looks); None when there are too few."""
    if len(points) < LEVELS_LEAST:
        return None
    from scipy.special import stdtrit  # it takes half of the command's start-up, which no other run should pay for

    x = np.array(sorted(points), dtype=np.float64)
    y = np.array([np.mean(points[int(level)]) for level in x])
    centred = x - x.mean()
    spread = float(centred @ centred)
    mean = float(centred @ y) / spread
    residual = y - y.mean() - mean * centred
    freedom = len(x) - 2
    error = float(np.sqrt(residual @ residual / freedom / spread))
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return Slope(mean, mean - half, mean + half)


def memory(record: Record) -> dict[str, float]:
    """Peaks, rises and slopes. Empty when nobody looked."""
    looks = looks_of(record)
    if not looks:
        return {}
    tasks = [look.tasks for look in looks if look.tasks]  # 0: not all processes told theirs, as one that was paused
    figures: dict[str, float] = {"looks": len(looks), "memory_peak_bytes": max(look.resident_bytes for look in looks)}
    if tasks:
        figures["tasks_max"] = max(tasks)
    if len(looks) >= QUARTERS_LEAST:
        figures["memory_rise_bytes"] = _rise([look.resident_bytes for look in looks])
    if len(tasks) >= QUARTERS_LEAST:
        figures["tasks_rise"] = _rise(tasks)
    for unit, levels in (("worker", _levels(looks, "workers")), ("partition", _levels(looks, "partitions"))):
        slope = slope_of(levels)
        if slope is not None:
            figures[f"memory_per_{unit}_bytes"] = slope.mean
            figures[f"memory_per_{unit}_lower_bytes"] = slope.lower
            figures[f"memory_per_{unit}_upper_bytes"] = slope.upper
    return figures


def _rise(values: list[int]) -> float:
    quarter = len(values) // 4
    return float(np.mean(values[-quarter:]) - np.mean(values[:quarter]))


def _levels(looks: list[Look], name: str) -> dict[int, list[int]]:
    """Level -> looks, where nothing but that number was varied: a further process costs much more than a further worker in one."""
    other = "partitions" if name == "workers" else "workers"
    if len({(getattr(look, other), look.processes) for look in looks}) > 1:
        return {}
    found: dict[int, list[int]] = defaultdict(list)
    for look in looks:
        found[getattr(look, name)].append(look.resident_bytes)
    return dict(found)
