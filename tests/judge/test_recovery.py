"""Recovery clocks on courses made by hand: what is seen is told, what is not seen is not, and nobody honest is called degraded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.judge.recovery import SETTLE_S, STEADY_BINS, Bin, Clocks, clocks, usual

WIDTH_S = 0.25


def _bins(published: list[float], delivered: list[float], wanted: list[float] | None = None) -> list[Bin]:
    """A course from the start of the load on; without `wanted` it was a closed loop."""
    meant = wanted if wanted is not None else [None] * len(published)
    return [Bin(number * WIDTH_S, *row) for number, row in enumerate(zip(published, delivered, meant, strict=True))]


def _read(bins: list[Bin], *, struck_s: float, lifted_s: float, until_s: float, away_ratio: float = 0.0) -> Clocks:
    before = usual(bins, until_s=struck_s)
    return clocks(bins, before, struck_s=struck_s, lifted_s=lifted_s, until_s=until_s, away_ratio=away_ratio)


def test_clocks_outage_with_catch_up_tells_all_three_apart() -> None:
    published = [100.0] * 20
    delivered = [1000.0] * 4 + [0.0] * 4 + [500.0, 500.0] + [2000.0] * 4 + [1500.0] + [1000.0] * 5

    seen = _read(_bins(published, delivered, published), struck_s=1.0, lifted_s=1.75, until_s=5.0)

    assert seen.first_delivery_s == 0.25
    assert seen.full_rate_s == 0.75
    assert seen.backlog_s == 1.5
    assert seen.degraded is False


@pytest.mark.parametrize("is_open", [True, False])
def test_clocks_rate_that_stays_down_is_degraded(is_open: bool) -> None:
    """In an open loop the load goes on, in a closed one it slows down with the target, which excuses nothing."""
    delivered = [1000.0] * 4 + [0.0] * 4 + [300.0] * 12
    bins = _bins([100.0] * 20, delivered, [100.0] * 20) if is_open else _bins([each / 10 for each in delivered], delivered)

    seen = _read(bins, struck_s=1.0, lifted_s=2.0, until_s=5.0)

    assert (seen.first_delivery_s, seen.full_rate_s, seen.degraded) == (0.0, None, True)
    assert seen.watched_s == 3.0


def test_clocks_publishers_that_are_held_up_do_not_excuse_a_slow_target() -> None:
    bins = _bins([100.0] * 4 + [30.0] * 16, [1000.0] * 4 + [300.0] * 16, [100.0] * 20)

    assert _read(bins, struck_s=1.0, lifted_s=1.0, until_s=5.0).degraded is True


def test_clocks_load_that_falls_by_itself_is_not_degraded() -> None:
    load = [100.0] * 8 + [20.0] * 16
    bins = _bins(load, [each * 10 for each in load], load)

    seen = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=6.0)

    assert (seen.full_rate_s, seen.degraded) == (0.0, False)


def test_clocks_rate_that_comes_back_for_a_moment_and_falls_again_is_degraded() -> None:
    """A replay after a reconnect looks like full speed for as long as it lasts."""
    bins = _bins([100.0] * 24, [1000.0] * 4 + [2000.0] * 5 + [300.0] * 15, [100.0] * 24)

    seen = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=6.0)

    assert (seen.full_rate_s, seen.degraded) == (None, True)


def test_clocks_slow_return_within_the_load_is_no_degradation() -> None:
    bins = _bins([100.0] * 32, [1000.0] * 4 + [100.0] * 20 + [1000.0] * 8, [100.0] * 32)

    seen = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=8.0)

    assert (seen.full_rate_s, seen.degraded) == (5.0, False)


def test_clocks_load_too_short_to_tell_is_unknown() -> None:
    enough = math.ceil(SETTLE_S / WIDTH_S)
    bins = _bins([100.0] * (4 + enough - 1), [1000.0] * 4 + [300.0] * (enough - 1), [100.0] * (4 + enough - 1))

    seen = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=1.0 + (enough - 1) * WIDTH_S)

    assert (seen.full_rate_s, seen.degraded) == (None, None)


def test_clocks_victims_that_stay_away_on_purpose_are_not_missed() -> None:
    bins = _bins([100.0] * 20, [1000.0] * 4 + [500.0] * 16, [100.0] * 20)

    missed = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=5.0)
    known = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=5.0, away_ratio=0.5)

    assert (missed.degraded, known.degraded) == (True, False)


def test_clocks_undisturbed_stream_recovers_at_once() -> None:
    bins = _bins([100.0] * 12, [1000.0] * 12, [100.0] * 12)

    seen = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=3.0)

    assert seen == Clocks(first_delivery_s=0.0, full_rate_s=0.0, backlog_s=0.0, degraded=False, watched_s=2.0)


def test_clocks_single_bins_at_full_rate_are_not_recovery() -> None:
    bins = _bins([100.0] * 20, [1000.0] * 4 + [0.0, 1000.0] * 6 + [0.0] * 4, [100.0] * 20)

    seen = _read(bins, struck_s=1.0, lifted_s=1.0, until_s=5.0)

    assert (seen.full_rate_s, seen.degraded) == (None, True)


@pytest.mark.parametrize("bins", [[], _bins([0.0] * 4, [0.0] * 4), _bins([0.0] * 4 + [100.0] * 4, [0.0] * 8)])
def test_clocks_nothing_before_the_fault_is_unknown(bins: list[Bin]) -> None:
    assert _read(bins, struck_s=1.0, lifted_s=1.0, until_s=2.0) == Clocks()


@pytest.mark.parametrize(("silent_bins", "backlog_s"), [(12, None), (4, 1.0), (0, 0.0)])
def test_clocks_publishers_that_were_held_up_owe_nothing_but_silence_is_no_catching_up(silent_bins: int, backlog_s: float | None) -> None:
    """A target that stood still took nothing, so nothing is owed when it is back; it is back when it delivers."""
    published = [100.0] * 4 + [0.0] * 4 + [100.0] * 12
    delivered = [1000.0] * 4 + [0.0] * (4 + silent_bins) + [1000.0 * (silent_bins + 1)] * (silent_bins < 12) + [1000.0] * (11 - silent_bins)

    seen = _read(_bins(published, delivered, [100.0] * 20), struck_s=1.0, lifted_s=2.0, until_s=5.0)

    assert (seen.first_delivery_s, seen.backlog_s) == (backlog_s, backlog_s)


def test_clocks_load_that_ends_with_the_fault_cannot_tell_degraded() -> None:
    bins = _bins([100.0] * 8, [1000.0] * 4 + [0.0] * 4, [100.0] * 8)

    assert _read(bins, struck_s=1.0, lifted_s=2.0, until_s=2.0).degraded is None


def test_clocks_what_comes_after_the_next_strike_is_not_this_faults() -> None:
    bins = _bins([100.0] * 28, [1000.0] * 4 + [300.0] * 16 + [1000.0] * 8, [100.0] * 28)

    assert _read(bins, struck_s=1.0, lifted_s=1.0, until_s=5.0).degraded is True
    assert _read(bins, struck_s=1.0, lifted_s=1.0, until_s=7.0).degraded is False


@given(
    load=st.lists(st.integers(1, 1000), min_size=8, max_size=60),
    fan_out=st.integers(1, 100),
    lag_bins=st.integers(0, 1),
    struck=st.integers(2, 6),
)
def test_clocks_a_stream_that_delivers_what_is_asked_is_never_degraded(load: list[int], fan_out: int, lag_bins: int, struck: int) -> None:
    """Whatever the load does, a target that keeps up with it is not accused; nor is one that is a bin behind an even load."""
    if lag_bins:
        load = [load[0]] * len(load)
    delivered = [0.0] * lag_bins + [float(each * fan_out) for each in load][: len(load) - lag_bins]
    bins = _bins([float(each) for each in load], delivered, [float(each) for each in load])

    seen = _read(bins, struck_s=struck * WIDTH_S, lifted_s=struck * WIDTH_S, until_s=len(load) * WIDTH_S)

    assert seen.degraded is not True
    if len(load) - struck >= STEADY_BINS:
        assert seen.degraded is False


@given(ratio=st.floats(0.0, 0.85), after=st.integers(12, 60), level=st.integers(10, 1000))
def test_clocks_a_stream_that_stays_slow_long_enough_is_always_degraded(ratio: float, after: int, level: int) -> None:
    load = [float(level)] * (8 + after)
    bins = _bins(load, [each * (1.0 if number < 8 else ratio) for number, each in enumerate(load)], load)

    seen = _read(bins, struck_s=2.0, lifted_s=2.0, until_s=len(load) * WIDTH_S)

    assert (seen.degraded, seen.full_rate_s) == (True, None)
