from __future__ import annotations

import pytest

from floodmark.judge.recovery import Bin, Clocks, clocks

WIDTH_S = 0.25


def _bins(published: list[float], delivered: list[float]) -> list[Bin]:
    return [Bin(number * WIDTH_S, *pair) for number, pair in enumerate(zip(published, delivered, strict=True))]


def test_clocks_outage_with_catch_up_tells_all_three_apart() -> None:
    published = [100.0] * 20
    delivered = [1000.0] * 4 + [0.0] * 4 + [500.0, 500.0] + [2000.0] * 4 + [1500.0] + [1000.0] * 5
    bins = _bins(published, delivered)

    seen = clocks(bins, struck_s=1.0, lifted_s=1.75, load_end_s=5.0)

    assert seen.first_delivery_s == pytest.approx(0.25)
    assert seen.full_rate_s == pytest.approx(0.75)
    assert seen.backlog_s == pytest.approx(1.5)
    assert seen.degraded is False


def test_clocks_rate_that_stays_down_is_degraded() -> None:
    bins = _bins([100.0] * 20, [1000.0] * 4 + [0.0] * 4 + [400.0] * 12)

    seen = clocks(bins, struck_s=1.0, lifted_s=2.0, load_end_s=5.0)

    assert seen.first_delivery_s == pytest.approx(0.0)
    assert seen.full_rate_s is None
    assert seen.backlog_s is None
    assert seen.degraded is True


def test_clocks_undisturbed_stream_recovers_at_once() -> None:
    bins = _bins([100.0] * 12, [1000.0] * 12)

    seen = clocks(bins, struck_s=1.0, lifted_s=1.0, load_end_s=3.0)

    assert (seen.first_delivery_s, seen.full_rate_s, seen.backlog_s, seen.degraded) == (0.0, 0.0, 0.0, False)


def test_clocks_single_bin_at_full_rate_is_not_recovery() -> None:
    bins = _bins([100.0] * 12, [1000.0] * 4 + [0.0, 1000.0, 0.0, 1000.0, 0.0, 0.0, 0.0, 0.0])

    seen = clocks(bins, struck_s=1.0, lifted_s=1.0, load_end_s=3.0)

    assert seen.full_rate_s is None
    assert seen.degraded is True


@pytest.mark.parametrize("bins", [[], _bins([0.0] * 4, [0.0] * 4), _bins([0.0] * 4 + [100.0] * 4, [0.0] * 8)])
def test_clocks_nothing_before_the_fault_is_unknown(bins: list[Bin]) -> None:
    assert clocks(bins, struck_s=1.0, lifted_s=1.0, load_end_s=2.0) == Clocks(
        first_delivery_s=None, full_rate_s=None, backlog_s=None, degraded=None
    )


def test_clocks_load_that_ends_with_the_fault_cannot_tell_degraded() -> None:
    bins = _bins([100.0] * 8, [1000.0] * 4 + [0.0] * 4)

    assert clocks(bins, struck_s=1.0, lifted_s=2.0, load_end_s=2.0).degraded is None
