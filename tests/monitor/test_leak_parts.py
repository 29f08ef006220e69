"""What the leak verdict is made of: the floor, the slope and its interval, the shapes of growth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from floodmark.monitor.leak import shape
from floodmark.monitor.leak.envelope import bottoms, floor
from floodmark.monitor.leak.slope import line, theil_sen

X = np.linspace(0.0, 1000.0, 2000)
POINTS_X = np.linspace(0.0, 1000.0, 48)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_theil_sen_agrees_with_scipy(values: list[float]) -> None:
    x, y = np.arange(len(values), dtype=np.float64), np.array(values)

    assert theil_sen(x, y) == pytest.approx(stats.theilslopes(y, x).slope, rel=1e-9, abs=1e-9)


def test_theil_sen_all_at_one_x_is_no_number() -> None:
    assert math.isnan(theil_sen(np.ones(5), np.arange(5.0)))


def test_line_a_quarter_of_wild_points_moves_it_little() -> None:
    y = 3.0 * POINTS_X
    y[::4] += 1e6

    assert line(POINTS_X, y, grain=0.0, seed=1).slope == pytest.approx(3.0, rel=0.1)


def test_line_same_seed_same_interval_and_another_seed_another() -> None:
    y = np.random.default_rng(5).normal(0, 100, size=48)

    assert line(POINTS_X, y, grain=1.0, seed=1) == line(POINTS_X, y, grain=1.0, seed=1)
    assert line(POINTS_X, y, grain=1.0, seed=1) != line(POINTS_X, y, grain=1.0, seed=2)


def test_line_99_percent_interval_holds_the_truth_under_noise_that_hangs_together() -> None:
    rng = np.random.default_rng(11)
    held = 0
    for seed in range(60):
        noise = np.zeros(48)
        for i in range(1, 48):
            noise[i] = 0.6 * noise[i - 1] + rng.normal(0, 100)
        found = line(POINTS_X, 2.0 * POINTS_X + noise, grain=0.0, seed=seed)
        held += found.lower <= 2.0 <= found.upper

    assert held >= 57


def test_line_grain_widens_by_itself_over_the_span() -> None:
    bare, grainy = (line(POINTS_X, 2.0 * POINTS_X, grain=grain, seed=1) for grain in (0.0, 500.0))

    assert grainy.upper - bare.upper == pytest.approx(0.5)
    assert bare.lower - grainy.lower == pytest.approx(0.5)


def test_floor_fast_teeth_give_their_bottoms() -> None:
    found = floor(X, 100.0 + 50.0 * ((X % 10.0) / 10.0), swing=10.0)

    assert float(found.y.max()) < 104.0


def test_floor_slow_teeth_are_counted_as_cycles() -> None:
    found = floor(X, 100.0 + 500.0 * ((X % 160.0) / 160.0), swing=10.0)

    assert found.cycles == 6
    assert float(found.y.max()) < 250.0


def test_floor_broad_spikes_are_no_cycles() -> None:
    y = np.full(2000, 100.0)
    y[500:540] = y[1200:1240] = 900.0

    assert not floor(X, y, swing=10.0).released


def test_floor_steady_growth_is_no_cycle() -> None:
    assert floor(X, 5.0 * X, swing=10.0).cycles == 0


def test_bottoms_of_a_monotone_series_are_none() -> None:
    assert bottoms(np.arange(10.0), 1.0).tolist() == []


def test_warm_up_bend_is_found() -> None:
    found = shape.warm_up(POINTS_X, np.minimum(POINTS_X, 400.0) * 10)

    assert found.end == pytest.approx(400, abs=60)
    assert found.why.startswith("change point")


def test_warm_up_without_bend_is_a_fixed_share() -> None:
    found = shape.warm_up(POINTS_X, POINTS_X * 3)

    assert found.end == pytest.approx(200)
    assert "no bend" in found.why


@pytest.mark.parametrize("tau", [0.1, 0.3, 1.0])
def test_lasting_slope_finds_what_is_left_behind_a_saturating_part(tau: float) -> None:
    y = 50_000 * -np.expm1(-POINTS_X / 1000 / tau) + 7.0 * POINTS_X + np.random.default_rng(3).normal(0, 20, size=48)

    low, high = shape.lasting_slope(POINTS_X, y)

    assert low < 7.0 < high


def test_climb_of_a_single_jump_has_nothing_without_it() -> None:
    found = shape.climb(POINTS_X, np.where(POINTS_X > 430, 500.0, 0.0))

    assert found.without_jumps == pytest.approx(0.0, abs=1e-9)
    assert found.total == 500.0
    assert 400 < found.jump_at < 600


def test_climb_of_a_line_is_steady() -> None:
    found = shape.climb(POINTS_X, 5.0 * POINTS_X)

    assert found.without_jumps == pytest.approx(5.0, rel=0.15)
    assert found.rising_share == 1.0


def test_without_jumps_takes_off_the_jump_and_leaves_the_leak() -> None:
    level = shape.without_jumps(POINTS_X, 5.0 * POINTS_X + 90_000.0 * (POINTS_X > 300), least=100.0)

    assert level is not None
    assert level[-1] == pytest.approx(5000.0)
    assert shape.without_jumps(POINTS_X, 5.0 * POINTS_X, least=100.0) is None
