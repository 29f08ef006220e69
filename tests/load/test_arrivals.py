"""Every schedule against its definition: message i is intended when the integral of the rate first reaches i."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.load.arrivals import ARRIVALS, FAR_NS, schedule
from floodmark.load.arrivals.poisson import BLOCK_COUNT, PoissonSchedule
from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave

DURATION_S = 40.0


def _number(low: float, high: float) -> st.SearchStrategy[float]:
    """What people type (few digits) and what code computes (all digits)."""
    return st.one_of(
        st.floats(low, high), st.integers(math.ceil(low * 100), math.floor(high * 100)).map(lambda hundredths: hundredths / 100)
    )


HZ = _number(0.01, 200_000)
SECONDS = _number(0.01, 30)
SMOOTH: dict[str, st.SearchStrategy[Arrival]] = {
    "constant": st.builds(Constant, rate_hz=HZ),
    "ramp": st.builds(Ramp, from_hz=HZ, to_hz=HZ),
    "step": st.builds(Step, from_hz=HZ, step_hz=HZ, every_s=SECONDS),
    "spike": st.builds(Spike, rate_hz=HZ, peak_hz=HZ, at_s=SECONDS, for_s=SECONDS),
    "wave": st.builds(
        lambda rate, depth, period: Wave(rate_hz=rate, amplitude_hz=max(rate * depth, 1e-6), period_s=period),
        HZ,
        st.one_of(st.floats(0.01, 1), st.just(1.0)),
        SECONDS,
    ),
}
ANY = st.one_of(
    *SMOOTH.values(),
    st.builds(Burst, count=st.integers(1, 5000), every_s=SECONDS),
    st.builds(Poisson, rate_hz=HZ),
)
EACH: list[Arrival] = [
    Constant(rate_hz=333.3),
    Ramp(from_hz=10, to_hz=1000),
    Ramp(from_hz=1000, to_hz=10),
    Step(from_hz=50, step_hz=25, every_s=1.5),
    Spike(rate_hz=20, peak_hz=2000, at_s=10, for_s=0.7),
    Wave(rate_hz=100, amplitude_hz=100, period_s=7),
    Burst(count=31, every_s=0.3),
    Poisson(rate_hz=200),
]


def integral(arrival: Arrival, elapsed_s: float) -> float:
    """The slow, obvious model: how many messages the rate adds up to."""
    match arrival:
        case Constant():
            return arrival.rate_hz * elapsed_s
        case Ramp():
            return arrival.from_hz * elapsed_s + (arrival.to_hz - arrival.from_hz) / DURATION_S * elapsed_s**2 / 2
        case Step():
            whole = int(elapsed_s / arrival.every_s)
            full = math.fsum((arrival.from_hz + k * arrival.step_hz) * arrival.every_s for k in range(whole))
            return full + (arrival.from_hz + whole * arrival.step_hz) * (elapsed_s - whole * arrival.every_s)
        case Spike():
            in_spike_s = min(max(elapsed_s - arrival.at_s, 0.0), arrival.for_s)
            return arrival.rate_hz * (elapsed_s - in_spike_s) + arrival.peak_hz * in_spike_s
        case Wave():
            turn = 2 * math.pi / arrival.period_s
            return arrival.rate_hz * elapsed_s + arrival.amplitude_hz / turn * (1 - math.cos(turn * elapsed_s))
    raise AssertionError(arrival)


@pytest.mark.parametrize("kind", SMOOTH)
def test_schedule_any_moment_has_as_many_messages_as_the_integral_of_the_rate(kind: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(arrival=SMOOTH[kind], elapsed_ns=st.integers(0, int(DURATION_S * 1e9)))
    def check(arrival: Arrival, elapsed_ns: int) -> None:
        due = schedule(arrival, duration_s=DURATION_S, seed=1).due(elapsed_ns)

        expected = integral(arrival, elapsed_ns / 1e9)
        assert due - 1 <= expected + 1e-6 + expected * 1e-9
        assert due >= expected - 1e-6 - expected * 1e-9

    check()


@settings(max_examples=300, deadline=None)
@given(arrival=ANY, start=st.integers(0, 200_000), count=st.integers(1, 300), seed=st.integers(-5, 5))
def test_schedule_times_and_due_are_exact_inverses(arrival: Arrival, start: int, count: int, seed: int) -> None:
    plan = schedule(arrival, duration_s=DURATION_S, seed=seed)

    times = plan.times_ns(start, start + count)

    assert times.dtype == np.int64
    assert len(times) == count
    assert (np.diff(times) >= 0).all()
    for offset in {0, count // 2, count - 1}:
        at = int(times[offset])
        assert plan.due(at) > start + offset
        assert plan.due(at - 1) <= start + offset


@settings(max_examples=200, deadline=None)
@given(arrival=ANY, start=st.integers(0, 50_000), count=st.integers(1, 400), cut=st.integers(0, 400))
def test_schedule_times_do_not_depend_on_how_they_are_asked_for(arrival: Arrival, start: int, count: int, cut: int) -> None:
    cut = min(cut, count)
    whole = schedule(arrival, duration_s=DURATION_S, seed=3).times_ns(start, start + count)
    other = schedule(arrival, duration_s=DURATION_S, seed=3)

    # Back to front, so that nothing kept from the first answer can help the second.
    tail, head = other.times_ns(start + cut, start + count), other.times_ns(start, start + cut)

    assert np.array_equal(whole, np.concatenate([head, tail]))


@pytest.mark.parametrize("arrival", EACH, ids=lambda arrival: type(arrival).__name__)
def test_schedule_before_the_start_has_nothing_due(arrival: Arrival) -> None:
    plan = schedule(arrival, duration_s=DURATION_S, seed=1)

    assert plan.due(-1) == 0
    assert len(plan.times_ns(5, 5)) == 0


@pytest.mark.parametrize("arrival", EACH, ids=lambda arrival: type(arrival).__name__)
def test_schedule_first_ten_thousand_messages_match_one_by_one_counting(arrival: Arrival) -> None:
    plan = schedule(arrival, duration_s=DURATION_S, seed=9)

    times = plan.times_ns(0, 10_000)

    probes = np.random.default_rng(4).integers(0, int(times[-1]), 300)
    assert [plan.due(int(at)) for at in probes] == [int((times <= at).sum()) for at in probes]


def test_constant_message_zero_is_at_offset_zero_and_a_second_holds_the_rate() -> None:
    plan = schedule(Constant(rate_hz=100), duration_s=None, seed=0)

    assert plan.times_ns(0, 3).tolist() == [0, 10_000_000, 20_000_000]
    assert plan.due(10**9 - 1) == 100


@pytest.mark.parametrize("rate_hz", [3.0, 0.7, 1000 / 7, 333.33, 99_999.9])
def test_constant_after_a_thousand_million_messages_has_not_drifted(rate_hz: float) -> None:
    plan = schedule(Constant(rate_hz=rate_hz), duration_s=None, seed=0)
    start = 10**9

    times = plan.times_ns(start, start + 3)

    assert times.tolist() == [math.ceil(Fraction(start + j) * 10**9 / Fraction(repr(rate_hz))) for j in range(3)]


def test_wave_after_a_thousand_million_messages_is_still_in_phase() -> None:
    plan = schedule(Wave(rate_hz=1000, amplitude_hz=900, period_s=10), duration_s=None, seed=0)
    periods = 100_000  # 10,000 messages in each, so message 10^9 begins a period

    assert abs(int(plan.times_ns(10**9, 10**9 + 1)[0]) - periods * 10 * 10**9) <= 1_000


def test_ramp_reaches_both_rates_and_holds_the_last_one_after_its_phase() -> None:
    plan = schedule(Ramp(from_hz=100, to_hz=1100), duration_s=10, seed=0)

    assert plan.due(10 * 10**9 - 1) == 6000
    assert plan.due(11 * 10**9) - plan.due(10 * 10**9) == 1100


def test_ramp_without_duration_is_a_usage_error_that_names_the_setting() -> None:
    with pytest.raises(UsageError, match=r"phase\.duration_s"):
        schedule(Ramp(from_hz=1, to_hz=2), duration_s=None, seed=0)


def test_burst_all_messages_share_their_instant() -> None:
    plan = schedule(Burst(count=3, every_s=0.5), duration_s=None, seed=0)

    assert plan.times_ns(1, 8).tolist() == [0, 0, 500_000_000, 500_000_000, 500_000_000, 10**9, 10**9]
    assert [plan.due(0), plan.due(499_999_999), plan.due(500_000_000)] == [3, 3, 6]


def test_poisson_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    def times(seed: int) -> list[int]:
        return [int(at) for at in schedule(Poisson(rate_hz=500), duration_s=None, seed=seed).times_ns(4000, 4300)]

    assert times(7) == times(7)
    assert times(7) != times(8)
    assert times(7) != times(-7)


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() -> None:
    gaps = np.diff(schedule(Poisson(rate_hz=1000), duration_s=None, seed=5).times_ns(0, 200_001))

    # 200,000 draws: the standard error of the mean is 0.22 %, that of the variance 0.63 %.
    assert abs(gaps.mean() / 1e6 - 1) < 0.01
    assert abs(gaps.var() / 1e12 - 1) < 0.04
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.01


def test_poisson_far_ahead_keeps_a_block_start_and_not_the_messages() -> None:
    plan = PoissonSchedule(Poisson(rate_hz=1000), seed=1)

    due = plan.due(1000 * 10**9)

    assert abs(due - 1_000_000) < 5_000  # five standard deviations
    assert len(plan._starts) <= due // BLOCK_COUNT + 2
    assert len(plan._cache) <= 2


@pytest.mark.parametrize("build", [lambda rate: Constant(rate_hz=rate), lambda rate: Poisson(rate_hz=rate)])
def test_schedule_slower_than_history_ends_at_far_instead_of_overflowing(build: Callable[[float], Arrival]) -> None:
    plan = schedule(build(1e-300), duration_s=None, seed=0)

    assert plan.times_ns(1, 3).tolist() == [FAR_NS, FAR_NS]
    assert plan.due(10**18) <= 1


def test_schedule_faster_than_a_nanosecond_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"constant\.rate_hz"):
        schedule(Constant(rate_hz=2e9), duration_s=None, seed=0)


def test_schedule_flood_is_a_harness_bug() -> None:
    with pytest.raises(HarnessBugError, match="Flood"):
        schedule(Flood(), duration_s=1.0, seed=0)


def test_arrivals_table_names_every_arrival_but_flood() -> None:
    assert set(ARRIVALS) == set(typing.get_args(Arrival)) - {Flood}
