"""What a rising floor looks like: a warm-up that ends, growth that dies away, jumps, or a steady climb.

Input: points of a floor, x ascending. Output: plain figures; what follows from them is decided in `growth.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from floodmark.monitor.leak.slope import CONFIDENCE, block_count, theil_sen
from floodmark.monitor.leak.trace import Floats

FIXED_SHARE = 0.2
LATEST_SHARE = 0.6
SEGMENTS_COUNT = 12
JUMPS_FORGIVEN = 2
# Twice the log-likelihood that a bend must gain over a straight line: two more parameters, and points that hang together.
_LOG_OF_A_BEND = 12.0


class WarmUp(NamedTuple):
    """Where warm-up ended, in units of x, and why that is thought so."""

    end: float
    why: str


def warm_up(x: Floats, y: Floats) -> WarmUp:
    """Find the bend after which growth is slower; a fixed fifth where there is none.

    A line with one bend is fitted for every bend between 5 % and 60 %. It counts when it fits far better than a straight line and growth
    after it is less than half of that before. The search is repeated once behind the first bend, as an exponential bends more than once.
    """
    start, span = float(x[0]), float(x[-1] - x[0])
    end, found = start, 0
    for _ in range(2):
        bend = _bend(x[x >= end], y[x >= end], latest=start + LATEST_SHARE * span)
        if bend is None:
            break
        end, found = bend, found + 1
    share = (end - start) / span if span else 0.0
    if not found or share < FIXED_SHARE:
        detail = f"the bend found at {share:.0%} lies within it" if found else "no bend in the floor"
        return WarmUp(start + FIXED_SHARE * span, f"a fixed {FIXED_SHARE:.0%} of the load: {detail}")
    return WarmUp(end, f"change point: growth slows for good after {share:.0%} of the load")


def _bend(x: Floats, y: Floats, *, latest: float) -> float | None:
    if len(x) < 12 or x[-1] <= x[0]:
        return None
    place = (x - x[0]) / (x[-1] - x[0])
    straight = np.column_stack([np.ones_like(place), place])
    best_error, best = _error(straight, y)[0], None
    straight_error = best_error
    for knot in np.linspace(0.05, 0.6, 23):
        error, found = _error(np.column_stack([straight, np.maximum(0.0, place - knot)]), y)
        before, after = found[1], found[1] + found[2]
        if error < best_error and x[0] + knot * (x[-1] - x[0]) <= latest and before > 0 and after < before / 2:
            best_error, best = error, float(knot)
    if best is None or len(x) * math.log(straight_error / max(best_error, straight_error * 1e-12)) < _LOG_OF_A_BEND:
        return None
    return float(x[0] + best * (x[-1] - x[0]))


def _error(design: Floats, y: Floats) -> tuple[float, Floats]:
    found, *_ = np.linalg.lstsq(design, y - y[0], rcond=None)
    away = y - y[0] - design @ found
    return float(away @ away), found


def without_jumps(x: Floats, y: Floats, *, least: float) -> Floats | None:
    """Take off the (at most two) rises between neighbours that stand out from all others; None when there is none.

    A rise stands out when it is above the median rise by more than `least` and by more than ten times the spread of all rises (their
    median absolute deviation).
    """
    if len(x) < 8:
        return None
    rises = np.diff(y)
    usual = float(np.median(rises))
    spread = 1.4826 * float(np.median(np.abs(rises - usual)))
    jumps = [int(i) for i in np.argsort(rises)[-JUMPS_FORGIVEN:] if rises[i] - usual > max(least, 10 * spread)]
    if not jumps:
        return None
    level = y.copy()
    for jump in jumps:
        level[jump + 1 :] -= rises[jump] - usual
    return level


class Halves(NamedTuple):
    """Slopes of the first and the second half of the points' span."""

    first: float
    second: float


def halves(x: Floats, y: Floats) -> Halves:
    """Return Theil-Sen slopes of both halves, NaN for one with too few points."""
    late = x >= (x[0] + x[-1]) / 2
    return Halves(theil_sen(x[~late], y[~late]), theil_sen(x[late], y[late]))


def lasting_slope(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the least and the most that is left of growth once a saturating part is taken off.

    y = c + s x + A (1 - exp(-x / tau)) is fitted for 24 values of tau from a twentieth of the span to twice the span, and once more
    between the neighbours of the best. Every tau that fits about as well as the best one (an F test with the blocks as degrees of freedom)
    counts, each with the interval of its s.
    """
    place = (x - x[0]) / (x[-1] - x[0])
    taus = np.geomspace(0.05, 2.0, 24)
    fits = [_saturating(place, y, float(tau)) for tau in taus]
    nearest = int(np.argmin([error for error, _, _ in fits]))
    around = np.geomspace(taus[max(0, nearest - 1)], taus[min(len(taus) - 1, nearest + 1)], 24)
    fits += [_saturating(place, y, float(tau)) for tau in around]
    best_error, design, found = min(fits, key=lambda fit: fit[0])
    residuals = y - y[0] - design @ found
    freedom = max(1.0, len(x) / block_count(residuals) - 4)
    allowed = best_error * (1 + float(stats.f.ppf(CONFIDENCE, 1, freedom)) / freedom)
    wide = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
    lows, highs = [], []
    for error, design, found in fits:
        if error <= allowed:
            slope = float(found[1])
            spread = math.sqrt(max(0.0, error / freedom * float(np.linalg.pinv(design.T @ design)[1, 1])))
            lows.append(slope - wide * spread)
            highs.append(slope + wide * spread)
    span = float(x[-1] - x[0])
    return min(lows) / span, max(highs) / span


def _saturating(place: Floats, y: Floats, tau: float) -> tuple[float, Floats, Floats]:
    design: Floats = np.column_stack([np.ones_like(place), place, -np.expm1(-place / tau)])
    error, found = _error(design, y)
    return error, design, found


class Climb(NamedTuple):
    """How growth is spread: levels of equal stretches of x, one after the other."""

    without_jumps: float  # slope that is left when the two largest rises between neighbours are taken off
    rising_share: float  # share of the neighbours that rise by at least a third of the mean rise
    largest_jump: float  # in units of y
    jump_at: float  # x behind the last rise that holds a quarter of all growth or more
    total: float  # growth from the first level to the last


def climb(x: Floats, y: Floats) -> Climb:
    """Measure whether growth is steady or hangs on a few jumps. At least 4 points."""
    segments = min(SEGMENTS_COUNT, max(2, len(x) // 2 if len(x) >= 8 else len(x)))
    edges = np.linspace(x[0], x[-1], segments + 1)
    where = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, segments - 1)
    filled = [segment for segment in range(segments) if np.any(where == segment)]
    at = np.array([float(np.median(x[where == segment])) for segment in filled])
    levels = np.array([float(np.median(y[where == segment])) for segment in filled])
    rises = np.diff(levels)
    total = float(levels[-1] - levels[0])
    if len(rises) < 2:
        return Climb(0.0, 0.0, 0.0, float(x[0]), total)
    forgiven = JUMPS_FORGIVEN if len(rises) >= 6 else 1
    rest = total - float(np.sort(rises)[-forgiven:].clip(min=0).sum())
    rest_span = float(at[-1] - at[0]) * (len(rises) - forgiven) / len(rises)
    mean = total / len(rises)
    large = np.flatnonzero(rises >= max(total, 0.0) / 4) if total > 0 else np.array([], dtype=np.intp)
    return Climb(
        without_jumps=rest / rest_span,
        rising_share=float(np.mean(rises >= mean / 3)) if mean > 0 else 0.0,
        largest_jump=float(rises.max()),
        jump_at=float(at[large[-1] + 1]) if len(large) else float(x[0]),
        total=total,
    )
