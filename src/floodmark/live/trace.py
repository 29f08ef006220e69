"""One curve over time within a bounded memory: when it is full, neighbours become one, and the lowest and highest of both are kept.

So a curve of any length costs the same, and a peak is never smoothed away.

    >>> trace = Trace(capacity_count=4)
    >>> for t in range(5): trace.add(float(t), float(t % 2))
    >>> [(point.t_s, point.lowest, point.highest) for point in trace]
    [(0.0, 0.0, 1.0), (2.0, 0.0, 1.0), (4.0, 0.0, 0.0)]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

CAPACITY_COUNT = 512


class Point(NamedTuple):
    """What a stretch of time held; `t_s` is its beginning."""

    t_s: float
    lowest: float
    highest: float
    last: float


class Trace:
    """Points in time order."""

    def __init__(self, *, capacity_count: int = CAPACITY_COUNT) -> None:
        if capacity_count < 2:
            raise ValueError(f"a trace needs room for two points, got {capacity_count}")
        self._capacity_count = capacity_count
        self._points: list[Point] = []

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    @property
    def highest(self) -> float:
        """The largest value of all; 0 for an empty trace."""
        return max((point.highest for point in self._points), default=0.0)

    def add(self, t_s: float, value: float) -> None:
        """Take a value; one that is older than the last counts as just as old."""
        points = self._points
        if points and t_s < points[-1].t_s:
            t_s = points[-1].t_s
        if len(points) == self._capacity_count:
            self._points = points = [_joined(points[at : at + 2]) for at in range(0, len(points), 2)]
        points.append(Point(t_s, value, value, value))


def _joined(pair: list[Point]) -> Point:
    first, last = pair[0], pair[-1]
    return Point(first.t_s, min(first.lowest, last.lowest), max(first.highest, last.highest), last.last)
