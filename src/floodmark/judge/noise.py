"""How much two sets of repetitions differ, and how sure that is.

Input: the values of one figure before and now, and by how much they may differ (`limit`). Output: an `Estimate`, or None where the values
say nothing about their own noise. Values are compared as logarithms, so that a difference is a ratio; as they are where one is not above 0.
Everything is turned so that more is worse.

With five repetitions or more on either side: the medians, a bootstrap interval of their difference (Efron 1979), and two tests of "beyond
the limit": Mann-Whitney's (1947), which asks nothing of the noise's shape but cannot be surer than 1 / C(n + m, n), and Welch's t (1947),
which heavy tails make too careful rather than too bold; the smaller p counts twice, since there were two of them. With fewer on one side:
the spread of the other, doubled, and the mildest of the few. With fewer on both: the spread within each run by a block bootstrap (Künsch
1989), widened by what runs were seen to differ beyond it. Borrowed spreads may convict and never acquit: one run does not tell how the
next one starts, and a spread borrowed too small would call a regression the same without anybody noticing.

Pure and deterministic. Not here: what the limit is, and many comparisons at once (`judge/compare.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REPETITIONS_LEAST = 5
REPETITIONS_MOST = 200  # a difference that takes more to settle lies at the limit itself
CONFIDENCE = 0.95
RESAMPLES_COUNT = 1000
BINS_LEAST = 8
BETWEEN_FACTOR = 8.0
"""Runs differ by so many times what one of them shows: 2.7 to 4.8 over 31 repetitions on a busy machine, up to 6.2 among eleven."""
SPREAD_LEAST = 0.005  # a run without any spread of its own still is one draw
BORROWED_FACTOR = 2.0  # an outlier among few runs is likelier than their spread says
_FREEDOM = 4.0  # of Student's t beside a spread that was extrapolated: its tails stand for the runs nobody has seen
LONE_RUN_RATIO = 2.0  # a lone run that takes twice as long may have met a bad moment of the machine
_POWER = 0.8  # the chance that a repetition of the size told settles it
_SEED = 1


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A difference, turned so that more is worse, as logarithms where `is_relative`. `error` is its standard error.

    `p_worse`, `p_better`: how likely such values are if the truth is not beyond the limit in that direction. `p_not_worse`,
    `p_not_better`: how likely they are if it is. 1 where the interval rules it out, or it cannot be told.
    """

    is_relative: bool
    method: str
    difference: float
    lower: float
    upper: float
    limit: float
    error: float
    p_worse: float
    p_better: float
    p_not_worse: float = 1.0
    p_not_better: float = 1.0


def estimate(
    before: Sequence[float],
    now: Sequence[float],
    *,
    sign: int,
    tolerance_ratio: float,
    grain: float,
    of_machine: bool = False,
    spreads_before: Sequence[float | None] = (),
    spreads_now: Sequence[float | None] = (),
) -> Estimate | None:
    """Estimate by how much `now` differs from `before`.

    Args:
        before, now: at least one value each.
        sign: 1 where more is worse, -1 where less is.
        tolerance_ratio: above 0; how much of the middle of `before` is no change yet.
        grain: an absolute change, in the figure's unit, that is none either; the larger holds.
        of_machine: the machine has its part in the figure, so that a lone run may be a bad one through no fault of the target.
        spreads_before, spreads_now: relative standard errors of the values within their runs, or None for those that have none.
    Returns: None where there are too few values to tell, and no spread within them.
    """
    middle = float(np.median(before))
    is_relative = min(*before, *now) > 0
    if is_relative:
        limit = math.log1p(max(tolerance_ratio, grain / middle))
        base, fresh = sign * np.log(before), sign * np.log(now)
    else:
        limit = max(tolerance_ratio * abs(middle), grain)
        base, fresh = sign * np.asarray(before, dtype=float), sign * np.asarray(now, dtype=float)
    if limit <= 0:
        return None
    if min(len(base), len(fresh)) >= REPETITIONS_LEAST:
        return _by_ranks(base, fresh, limit, is_relative=is_relative)
    least = SPREAD_LEAST if is_relative else limit / 4
    if max(len(base), len(fresh)) >= REPETITIONS_LEAST:
        lone = math.log(LONE_RUN_RATIO) if of_machine and is_relative and min(len(base), len(fresh)) == 1 else 0.0
        return _by_other_side(base, fresh, limit, least, lone, is_relative=is_relative)
    if not is_relative:
        return None
    errors = _extrapolated(base, spreads_before), _extrapolated(fresh, spreads_now)
    if errors[0] is None or errors[1] is None:
        return None
    error = math.hypot(errors[0], errors[1])
    difference = float(np.median(fresh) - np.median(base))
    return _by_spread(difference, limit, error, freedom=_FREEDOM, method="spread within runs", is_relative=True)


def _by_ranks(base: Floats, fresh: Floats, limit: float, *, is_relative: bool) -> Estimate:
    rng = np.random.default_rng(_SEED)
    drawn = _medians(fresh, rng) - _medians(base, rng)
    lower, upper = (float(end) for end in np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Estimate(
        is_relative=is_relative,
        method="ranks",
        difference=float(np.median(fresh) - np.median(base)),
        lower=lower,
        upper=upper,
        limit=limit,
        error=float(drawn.std()),
        # Tested only where the interval leaves room for it: all else is settled, and a test costs as much as the bootstrap.
        p_worse=_p_either(fresh, base + limit) if lower > limit else 1.0,
        p_better=_p_either(base - limit, fresh) if upper < -limit else 1.0,
        p_not_worse=_p_above(base + limit, fresh) if upper < limit else 1.0,
        p_not_better=_p_above(fresh, base - limit) if lower > -limit else 1.0,
    )


def _medians(values: Floats, rng: np.random.Generator) -> Floats:
    picks = rng.integers(0, len(values), size=(RESAMPLES_COUNT, len(values)))
    medians: Floats = np.median(values[picks], axis=1)
    return medians


def _p_above(high: Floats, low: Floats) -> float:
    """How likely `high` would lie above `low` like this if it did not; never less than so few values can say, 1 where it is not above."""
    from scipy import stats  # here: half a second that only a comparison should pay

    if np.median(high) <= np.median(low):
        return 1.0
    least = least_p(len(high), len(low))
    if high.min() > low.max():
        return least
    return max(least, float(stats.mannwhitneyu(high, low, alternative="greater").pvalue))


def _p_either(high: Floats, low: Floats) -> float:
    """The same by the better of two tests, for which it counts twice."""
    from scipy import stats

    by_ranks = _p_above(high, low)
    if by_ranks == 1.0 or (np.ptp(high) == 0 and np.ptp(low) == 0):  # without any spread a t is infinite, and ranks are all there is
        return by_ranks
    told = (float(of) for side in (high, low) for of in (side.mean(), side.std(ddof=1), len(side)))
    # From the moments: given the values it warns where one side never moves, which is what descriptors do.
    by_t = float(stats.ttest_ind_from_stats(*told, equal_var=False, alternative="greater").pvalue)
    return min(1.0, 2 * min(by_t, by_ranks))


def least_p(before_count: int, now_count: int) -> float:
    """The least p-value that the ranks of so many values can give: of all orders, the one that is wholly apart.

    >>> round(1 / least_p(5, 5))
    252
    """
    return 1 / math.comb(before_count + now_count, before_count)


def _extrapolated(values: Floats, spreads: Sequence[float | None]) -> float | None:
    """The standard error of the middle of few values; None when not all of them know their spread."""
    known = [spread for spread in spreads if spread is not None]
    if len(known) < len(values) or not known:
        return None
    each = BETWEEN_FACTOR * max(SPREAD_LEAST, float(np.sqrt(np.mean(np.square(known)))))
    if len(values) > 1:
        each = max(each, float(np.std(values, ddof=1)))
    return each / math.sqrt(len(values))


def _by_other_side(base: Floats, fresh: Floats, limit: float, least: float, lone: float, *, is_relative: bool) -> Estimate:
    """Take the side with few values to vary as the other does, and then some; where they disagree, the mildest of them speaks."""
    many = base if len(base) >= len(fresh) else fresh
    each = BORROWED_FACTOR * max(least, float(np.std(many, ddof=1)))
    error = each * math.sqrt(1 / len(base) + 1 / len(fresh))
    differences = fresh - np.median(base) if many is base else np.median(fresh) - base
    difference = float(np.median(differences))
    mildest = float(differences[np.argmin(np.abs(differences))]) if np.ptp(np.sign(differences)) == 0 else 0.0
    return _by_spread(
        difference,
        limit,
        error + abs(difference - mildest),
        freedom=len(many) - 1.0,
        lone=lone,
        method="spread of the other side",
        is_relative=is_relative,
    )


def _by_spread(
    difference: float, limit: float, error: float, *, freedom: float, lone: float = 0.0, method: str, is_relative: bool
) -> Estimate:
    from scipy import stats  # here, as above

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error + lone
    return Estimate(
        is_relative=is_relative,
        method=method,
        difference=difference,
        lower=difference - half,
        upper=difference + half,
        limit=limit,
        error=error,
        p_worse=float(stats.t.sf((difference - lone - limit) / error, freedom)),
        p_better=float(stats.t.cdf((difference + lone + limit) / error, freedom)),
    )


def within_run(values: Sequence[float]) -> float | None:
    """The relative standard error of a run's middle, from what was sampled over its load; None for less than 8 samples above 0.

    Neighbours hang together, so blocks of n^(1/3) of them are drawn at once.
    """
    above = [value for value in values if value > 0]
    if len(above) < BINS_LEAST:
        return None
    logs = np.log(above)
    count = len(logs)
    block = math.ceil(count ** (1 / 3))
    starts = np.random.default_rng(_SEED).integers(0, count - block + 1, size=(RESAMPLES_COUNT // 2, math.ceil(count / block)))
    picks = (starts[:, :, None] + np.arange(block)).reshape(len(starts), -1)[:, :count]
    return float(np.median(logs[picks], axis=1).std())


def repetitions_for(p: float) -> int:
    """How many repetitions on either side it takes until ranks can be as sure as `p`.

    >>> repetitions_for(0.05), repetitions_for(0.05 / 13)
    (5, 6)
    """
    count = REPETITIONS_LEAST
    while least_p(count, count) > p:
        count += 1
    return count


def repetitions_to_settle(found: Estimate, before_count: int, now_count: int, *, alpha: float) -> int | None:
    """How many repetitions on either side would, four times of five, get the whole interval onto one side of the limit.

    Args:
        found: from ranks; its difference is taken for the true one.
        alpha: how sure it takes to call it worse or better.
    Returns: None for more than REPETITIONS_MOST: the difference lies at the limit.
    """
    gap = abs(abs(found.difference) - found.limit)
    sure = alpha if abs(found.difference) > found.limit else (1 - CONFIDENCE) / 2
    reach = (NormalDist().inv_cdf(1 - sure) + NormalDist().inv_cdf(_POWER)) * found.error
    here = 2 / (1 / before_count + 1 / now_count)
    if gap * math.sqrt(REPETITIONS_MOST) <= reach * math.sqrt(here):
        return None
    return max(math.ceil(here * (reach / gap) ** 2), min(before_count, now_count) + 1)
