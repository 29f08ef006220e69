"""What is drawn over time: samples, marks, and the thinning of a curve before it is drawn.

A sample is (t_s, series, value); t_s counts from the scenario's first intended send and is negative before it. A mark is (t_s, text): the
start of a phase, a fault injected or healed. In samples.parquet a mark is a row whose series is `mark:` and its text: one table holds all.
Not here: reading and writing files (folder.py), drawing (plots.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

MARK_PREFIX = "mark:"

#: The series that reports draw; a run may hold others, which stay in samples.parquet. The text says what one value is.
SERIES: dict[str, str] = {
    "published_hz": "messages sent per second",
    "delivered_hz": "deliveries per second",
    "response_p50_ns": "median response latency of the interval: from the intended send",
    "response_p99_ns": "99th percentile of the response latency of the interval",
    "response_max_ns": "largest response latency of the interval",
    "service_p50_ns": "median service latency of the interval: from the actual send",
    "service_p99_ns": "99th percentile of the service latency of the interval",
    "generator_lag_ns": "how late the generator itself was",
    "target_rss_bytes": "resident memory of the target's process tree",
    "target_cpu_ratio": "processor time of the target per second, 1.0 is one core",
    "target_fds": "descriptors open in the target",
    "harness_rss_bytes": "resident memory of runner and agents together",
    "harness_cpu_ratio": "processor time of runner and agents per second, 1.0 is one core",
    "connections": "connections open",
}


class Sample(NamedTuple):
    """One value of one series; a plain tuple of the same three does as well."""

    t_s: float
    series: str
    value: float


class Mark(NamedTuple):
    """Something that happened: a phase began, a fault was injected or healed."""

    t_s: float
    text: str


class Curve(NamedTuple):
    """One series in time order: two lists of equal length."""

    t_s: list[float]
    values: list[float]


class Timeline(NamedTuple):
    """All that was sampled in one scenario."""

    curves: dict[str, Curve]
    marks: list[Mark]


def mark_rows(marks: Iterable[tuple[float, str]]) -> Iterator[Sample]:
    """Turn marks into the rows that samples.parquet keeps them as."""
    return (Sample(t_s, MARK_PREFIX + text, 1.0) for t_s, text in marks)


def timeline(rows: Iterable[tuple[float, str, float]]) -> Timeline:
    """Sort rows by time into curves and marks.

    >>> timeline([(1.0, "connections", 5.0), (0.0, "mark:steady", 1.0), (0.0, "connections", 4.0)])
    Timeline(curves={'connections': Curve(t_s=[0.0, 1.0], values=[4.0, 5.0])}, marks=[Mark(t_s=0.0, text='steady')])
    """
    curves: dict[str, Curve] = {}
    marks: list[Mark] = []
    for t_s, series, value in sorted(rows, key=lambda row: row[0]):
        if series.startswith(MARK_PREFIX):
            marks.append(Mark(t_s, series.removeprefix(MARK_PREFIX)))
        else:
            curve = curves.setdefault(series, Curve([], []))
            curve.t_s.append(t_s)
            curve.values.append(value)
    return Timeline(curves, marks)


def thin(curve: Curve, *, points: int) -> Curve:
    """Keep at most `points` samples, and among them the lowest and the highest of every stretch: a peak is never smoothed away.

    Args:
        curve: in time order.
        points: at least 4.

    >>> thin(Curve([0, 1, 2, 3, 4, 5, 6, 7], [1, 1, 9, 1, 1, 1, 0, 1]), points=4)
    Curve(t_s=[0, 2, 4, 6], values=[1, 9, 1, 0])
    """
    count = len(curve.t_s)
    if count <= points:
        return curve
    kept: list[int] = []
    for stretch in _stretches(count, max(points // 2, 2)):
        lowest = min(stretch, key=curve.values.__getitem__)
        highest = max(stretch, key=curve.values.__getitem__)
        kept.extend(sorted({lowest, highest}))
    return Curve(_pick(curve.t_s, kept), _pick(curve.values, kept))


def _stretches(count: int, parts: int) -> Iterator[range]:
    return (range(part * count // parts, (part + 1) * count // parts) for part in range(parts))


def _pick(values: Sequence[float], indices: Iterable[int]) -> list[float]:
    return [values[index] for index in indices]
