"""The slope of a cloud of points and how sure it is: Theil-Sen with a moving-block bootstrap.

Theil-Sen (Theil 1950, Sen 1968): the median of the slopes of all pairs; up to 29 % of the points may be anything. Its usual interval takes
the points for independent, which samples of one process are not; blocks of neighbouring residuals are drawn together instead (Künsch 1989).
Deterministic: the generator is seeded by the caller. Limits: some hundred points at most, as pairs grow with the square.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from floodmark.monitor.leak.trace import Floats

RESAMPLES_COUNT = 400
CONFIDENCE = 0.99
WANDER_GRAINS = 2.0  # what wanders further is a cycle or a jump, which other parts look after
_NORMAL = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))


class Line(NamedTuple):
    """A slope in units of y per unit of x, with the interval that holds it."""

    slope: float
    lower: float
    upper: float


class _Pairs(NamedTuple):
    first: np.ndarray[tuple[int], np.dtype[np.intp]]
    second: np.ndarray[tuple[int], np.dtype[np.intp]]
    run: Floats


def _pairs(x: Floats) -> _Pairs:
    first, second = np.triu_indices(len(x), k=1)
    run = x[second] - x[first]
    apart = run > 0
    return _Pairs(first[apart], second[apart], run[apart])


def theil_sen(x: Floats, y: Floats) -> float:
    """Return the median slope of all pairs that differ in x; NaN when none do.

    >>> theil_sen(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 4.0, 6.0, 99.0]))
    2.0
    """
    pairs = _pairs(x)
    if not len(pairs.run):
        return math.nan
    return _middle((y[pairs.second] - y[pairs.first]) / pairs.run)


def _middle(slopes: Floats) -> float:
    """Return the median of an array that may be overwritten; numpy's own has four times the overhead at this size."""
    half = len(slopes) // 2
    if len(slopes) % 2:
        slopes.partition(half)
        return float(slopes[half])
    slopes.partition((half - 1, half))
    return float(slopes[half - 1] + slopes[half]) / 2


def block_count(residuals: Floats) -> int:
    """Return how many neighbours hang together: the lag where autocorrelation has died away, at least n^(1/3), at most n/4."""
    count = len(residuals)
    least: int = math.ceil(count ** (1 / 3))
    most: int = max(1, count // 4)
    centred = residuals - residuals.mean()
    power = float(centred @ centred)
    if power <= 0:
        return min(least, most)
    for lag in range(1, most):
        if float(centred[:-lag] @ centred[lag:]) / power < 0.2:
            return min(max(least, lag), most)
    return most


def line(x: Floats, y: Floats, *, grain: float, seed: int) -> Line:
    """Fit a line and its 99 % interval.

    Args:
        x, y: (n,) points, n >= 3, x ascending.
        grain: what y may hide or show at once, in its own units; a level is not known better than this.
        seed: of the bootstrap.
    Returns: NaN everywhere when fewer than 3 points differ in x.
    """
    pairs = _pairs(x)
    if len(np.unique(x)) < 3:
        return Line(math.nan, math.nan, math.nan)
    slope = _middle((y[pairs.second] - y[pairs.first]) / pairs.run)
    residuals = y - slope * x
    residuals = residuals - np.median(residuals)
    count, block = len(x), block_count(residuals)
    blocks = math.ceil(count / block)
    starts = np.random.default_rng(seed).integers(0, count - block + 1, size=(RESAMPLES_COUNT, blocks))
    picks = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES_COUNT, -1)[:, :count]
    slopes = np.empty(RESAMPLES_COUNT)
    for i, pick in enumerate(picks):  # HOT: one resample at a time stays in the cache; all at once takes twice as long
        drawn = residuals[pick]
        slopes[i] = _middle((drawn[pairs.second] - drawn[pairs.first]) / pairs.run)
    below, above = np.quantile(slopes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # A few blocks know little about their own spread: Student's t, with as many degrees of freedom as blocks less the two of a line.
    widen = float(stats.t.ppf(0.5 + CONFIDENCE / 2, max(1.0, count / block - 2))) / _NORMAL
    # What wandered within the run may wander across its ends too, and a drift slower than the run leaves no blocks to draw from.
    wander = float(np.quantile(residuals, 0.95) - np.quantile(residuals, 0.05)) / 2
    hidden = (grain + min(wander, WANDER_GRAINS * grain)) / float(x[-1] - x[0])
    return Line(slope, slope + widen * min(0.0, float(below)) - hidden, slope + widen * max(0.0, float(above)) + hidden)
