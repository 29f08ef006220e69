"""Two sets of repetitions: what ranks, a borrowed spread and the spread within a run each can say, and what none of them may."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from floodmark.judge import noise
from tests.judge.repeated import CALM, scaled


def estimate(before: tuple[float, ...], now: tuple[float, ...], **more: object) -> noise.Estimate | None:
    """With a tolerance of 10 %, where less is better."""
    return noise.estimate(before, now, **{"sign": 1, "tolerance_ratio": 0.10, "grain": 0.0, **more})  # type: ignore[arg-type]


def test_estimate_of_a_planted_slowdown_lies_wholly_beyond_the_limit() -> None:
    found = estimate(CALM, scaled(1.5))

    assert found is not None
    assert found.lower > found.limit
    assert math.exp(found.difference) == pytest.approx(1.5, rel=0.02)
    assert found.p_worse < 0.001


def test_estimate_where_less_is_worse_turns_a_lower_rate_into_harm() -> None:
    found = estimate(CALM, scaled(0.6), sign=-1)

    assert found is not None
    assert found.lower > found.limit


def test_estimate_of_the_same_lies_within_the_limits() -> None:
    found = estimate(CALM, scaled(1.003))

    assert found is not None
    assert -found.limit < found.lower < found.upper < found.limit
    assert max(found.p_not_worse, found.p_not_better) < 0.05
    assert found.p_worse == found.p_better == 1.0


def test_estimate_is_mirrored_when_before_and_now_change_places() -> None:
    one, other = estimate(CALM, scaled(1.5)), estimate(scaled(1.5), CALM)

    assert one is not None
    assert other is not None
    assert other.difference == pytest.approx(-one.difference)
    assert other.p_better == pytest.approx(one.p_worse)


def test_estimate_is_the_same_in_every_unit() -> None:
    plain, small = estimate(CALM, scaled(1.2)), estimate(scaled(1e-9), scaled(1.2e-9))

    assert plain is not None
    assert small is not None
    assert (plain.lower, plain.upper) == pytest.approx((small.lower, small.upper))


def test_estimate_counts_nothing_below_the_grain_as_a_change() -> None:
    found = estimate(scaled(1e-4), scaled(1.5e-4), grain=1e-4)

    assert found is not None
    assert found.upper < found.limit


def test_estimate_of_figures_at_zero_is_a_difference() -> None:
    found = estimate((0.0, 0.0, 0.0, 1.0, 0.0), (40.0, 41.0, 40.0, 39.0, 40.0), grain=5.0)

    assert found is not None
    assert not found.is_relative
    assert found.lower > found.limit == 5.0


def test_estimate_of_figures_at_zero_without_a_grain_says_nothing() -> None:
    assert estimate((0.0,) * 5, (0.0,) * 5) is None


def test_estimate_of_figures_that_never_move_tells_a_step_from_none() -> None:
    same, step = estimate((60.0,) * 6, (60.0,) * 6), estimate((60.0,) * 6, (90.0,) * 6)

    assert same is not None
    assert same.p_not_worse < 0.05
    assert step is not None
    assert step.p_worse == pytest.approx(noise.least_p(6, 6))


@pytest.mark.parametrize(("before_count", "now_count", "factor"), [(5, 5, 1.6), (8, 8, 1.6), (8, 6, 0.5), (12, 9, 1.7), (8, 8, 1.0)])
def test_estimate_says_what_scipy_says_of_the_same_values(before_count: int, now_count: int, factor: float) -> None:
    rng = np.random.default_rng(before_count + now_count)
    before, now = rng.lognormal(0, 0.1, before_count), factor * rng.lognormal(0, 0.1, now_count)

    found = estimate(tuple(before), tuple(now))

    assert found is not None
    base, fresh = np.log(before), np.log(now)
    drawn = stats.bootstrap((fresh, base), _between_medians, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2))
    assert (found.lower, found.upper) == pytest.approx(tuple(drawn.confidence_interval), abs=0.25 * drawn.standard_error)
    assert found.error == pytest.approx(drawn.standard_error, rel=0.1)
    worse, better = _by_scipy(fresh, base + found.limit), _by_scipy(base - found.limit, fresh)
    assert found.p_worse == pytest.approx(2 * min(worse) if found.lower > found.limit else 1.0)
    assert found.p_better == pytest.approx(2 * min(better) if found.upper < -found.limit else 1.0)
    not_worse = stats.mannwhitneyu(base + found.limit, fresh, alternative="greater").pvalue
    assert found.p_not_worse == pytest.approx(not_worse if found.upper < found.limit else 1.0)


def _between_medians(high: noise.Floats, low: noise.Floats, axis: int) -> noise.Floats:
    between: noise.Floats = np.median(high, axis=axis) - np.median(low, axis=axis)
    return between


def _by_scipy(high: noise.Floats, low: noise.Floats) -> tuple[float, float]:
    """Of "high is above low", by ranks and by Welch's t."""
    return (
        float(stats.mannwhitneyu(high, low, alternative="greater").pvalue),
        float(stats.ttest_ind(high, low, equal_var=False, alternative="greater").pvalue),
    )


@pytest.mark.parametrize(("before", "now"), [((28.0,) * 6, (40.0, 41.0, 40.0, 40.0, 40.0, 40.0)), ((28.0, 29.0) * 3, (45.0,) * 7)])
def test_estimate_where_one_side_never_moves_finds_the_step_without_a_warning(before: tuple[float, ...], now: tuple[float, ...]) -> None:
    found = estimate(before, now)

    assert found is not None
    assert found.lower > found.limit
    assert 0 < found.p_worse < 1e-3


def test_estimate_of_single_runs_without_a_spread_says_nothing() -> None:
    assert estimate((1.0,), (9.0,)) is None


@pytest.mark.parametrize("factor", [1.0, 1.5, 100.0])
def test_estimate_of_few_runs_never_clears(factor: float) -> None:
    lone = estimate((1.0,), (factor,), spreads_before=(0.01,), spreads_now=(0.01,))
    borrowed = estimate(CALM, (factor,))

    for found in (lone, borrowed):
        assert found is not None
        assert found.p_not_worse == found.p_not_better == 1.0


def test_estimate_of_single_runs_is_as_wide_as_runs_were_seen_to_differ() -> None:
    found = estimate((1.0,), (1.0,), spreads_before=(0.05,), spreads_now=(0.05,))

    assert found is not None
    assert found.error == pytest.approx(noise.BETWEEN_FACTOR * 0.05 * math.sqrt(2))


def test_estimate_of_a_lone_run_lets_a_bad_moment_pass_and_finds_what_is_far_beyond() -> None:
    twice, tenfold = estimate(CALM, (2.0,), of_machine=True), estimate(CALM, (10.0,), of_machine=True)

    assert twice is not None
    assert twice.lower < twice.limit
    assert tenfold is not None
    assert tenfold.lower > tenfold.limit
    assert tenfold.p_worse < 0.001


def test_estimate_of_two_runs_that_disagree_believes_the_milder() -> None:
    found = estimate(CALM, (1.0, 3.0))

    assert found is not None
    assert found.lower < found.limit


def test_within_run_grows_with_what_moves_and_needs_enough_samples() -> None:
    rng = np.random.default_rng(3)
    calm, wild = (noise.within_run(list(np.exp(spread * rng.standard_normal(200)))) for spread in (0.01, 0.3))

    assert calm is not None
    assert wild is not None
    assert 10 < wild / calm < 90
    assert noise.within_run([1.0] * 7) is None
    assert noise.within_run([0.0] * 100) is None


def test_within_run_of_neighbours_that_hang_together_is_wider_than_of_strangers() -> None:
    rng = np.random.default_rng(3)
    steps = 0.1 * rng.standard_normal(300)
    drifting = np.convolve(steps, np.ones(20) / math.sqrt(20), mode="same")

    together, apart = noise.within_run(list(np.exp(drifting))), noise.within_run(list(np.exp(rng.permutation(drifting))))

    assert together is not None
    assert apart is not None
    assert together > 1.3 * apart


def test_repetitions_to_settle_grow_with_noise_and_end_at_the_limit() -> None:
    calm = estimate(CALM[:5], scaled(1.3, CALM[:5]))
    noisy = estimate((0.7, 1.0, 1.4, 0.8, 1.2), scaled(1.5, (0.7, 1.0, 1.4, 0.8, 1.2)))
    at_the_limit = estimate((0.7, 1.0, 1.4, 0.8, 1.2), scaled(1.1, (0.7, 1.0, 1.4, 0.8, 1.2)))

    assert calm is not None
    assert noisy is not None
    assert at_the_limit is not None
    few, many = (noise.repetitions_to_settle(one, 5, 5, alpha=0.005) for one in (calm, noisy))
    assert few == 6
    assert many is not None
    assert many > 10
    assert noise.repetitions_to_settle(at_the_limit, 5, 5, alpha=0.005) is None


def test_repetitions_to_settle_do_settle_it_when_they_are_made() -> None:
    rng = np.random.default_rng(11)
    spread, slower = 0.15, 1.35

    first = estimate(*(tuple(factor * np.exp(spread * rng.standard_normal(6))) for factor in (1.0, slower)))
    assert first is not None
    wanted = noise.repetitions_to_settle(first, 6, 6, alpha=0.05)
    assert wanted is not None
    settled = 0
    for _ in range(40):
        again = estimate(*(tuple(factor * np.exp(spread * rng.standard_normal(wanted))) for factor in (1.0, slower)))
        settled += again is not None and again.lower > again.limit

    assert settled >= 20
