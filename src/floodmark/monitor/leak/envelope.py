"""The floor under a trace: what memory falls back to.

Sawtooth memory (a collector's cycles, an allocator that trims now and then) says nothing with its tops. The minimum of each of 48 windows
removes spikes and fast cycles; where the minima themselves still rise and fall at least four times, only their bottoms are kept.
Input: x ascending, y without NaN. Output: points of the floor. A cycle longer than the trace cannot be told from growth.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from floodmark.monitor.leak.trace import Floats

WINDOWS_COUNT = 48
WIDE_WINDOWS_COUNT = 16
SAMPLES_PER_WINDOW = 5
CYCLES_LEAST = 4


class Floor(NamedTuple):
    """Points of the floor.

    `released`: memory was seen to be given back and to rise again. `cycles`: how often; with fewer than `CYCLES_LEAST` the points are plain
    minima, which may lie anywhere on a cycle, so that a rise among them proves nothing.
    """

    x: Floats
    y: Floats
    cycles: int

    @property
    def released(self) -> bool:
        return self.cycles > 0


def floor(x: Floats, y: Floats, *, swing: float) -> Floor:
    """Find the floor.

    Args:
        swing: the least rise and fall, in units of y, that makes a cycle; smaller ones are noise.
    """
    floor_x, floor_y = _minima(x, y, WINDOWS_COUNT)
    found = _cycles(floor_x, floor_y, swing)
    if len(found) >= CYCLES_LEAST:
        return Floor(floor_x[found], floor_y[found], len(found))
    if len(found):  # a few broad spikes are no cycles: wider windows swallow them
        wide_x, wide_y = _minima(x, y, WIDE_WINDOWS_COUNT)
        if not len(_cycles(wide_x, wide_y, swing)):
            return Floor(wide_x, wide_y, 0)
    return Floor(floor_x, floor_y, len(found))


def _minima(x: Floats, y: Floats, most: int) -> tuple[Floats, Floats]:
    windows = max(1, min(most, len(x) // SAMPLES_PER_WINDOW))
    edges = np.linspace(0, len(x), windows + 1).astype(int)
    lowest = np.array([start + int(np.argmin(y[start:end])) for start, end in itertools.pairwise(edges)], dtype=np.intp)
    return x[lowest], y[lowest]


def _cycles(x: Floats, y: Floats, swing: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Find the bottoms of cycles that reach over 0.3 of what is left after a straight line, so that a steep leak does not hide them."""
    away = y
    if len(np.unique(x)) >= 3:
        away = y - np.polyval(np.polyfit(x - x[0], y, 1), x - x[0])
    reach = float(np.quantile(away, 0.95) - np.quantile(away, 0.05))
    return bottoms(y, max(swing, 0.3 * reach))


def bottoms(y: Floats, swing: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the indices of low points that follow a fall of at least `swing` and precede as great a rise, or the end.

    >>> bottoms(np.array([0.0, 5.0, 1.0, 6.0, 2.0, 7.0]), 3.0).tolist()
    [2, 4]
    """
    found: list[int] = []
    top = low = 0
    falling = False
    for i in range(1, len(y)):
        if falling:
            if y[i] < y[low]:
                low = i
            elif y[i] - y[low] >= swing:
                found.append(low)
                falling, top = False, i
        elif y[i] > y[top]:
            top = i
        elif y[top] - y[i] >= swing:
            falling, low = True, i
    if falling:
        found.append(low)
    return np.array(found, dtype=np.intp)
