"""The leak verdict on traces whose truth is known: no false alarm, no leak passed, and UNKNOWN with its reason where little can be said."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.model.verdict import Verdict
from floodmark.monitor.leak import LeakResult, Trace, Window, judge_leak, trace_of
from floodmark.monitor.leak.synthetic import KINDS, make
from floodmark.monitor.sample import ProcessSample

SEEDS = (1, 2, 3)
ALWAYS_CLEAR = ("flat", "sawtooth", "spikes", "missing", "fault")  # kinds that hide nothing: PASS without a leak, FAIL with twice the limit


def memory_only(kind: str, *, seed: int, leak: float = 0.0, second_load: bool = False) -> Trace:
    trace = make(kind, seed=seed, leak_bytes_per_message=leak, second_load=second_load)
    return msgspec.structs.replace(trace, descriptors=None, threads=None)


def ramp(count: int, *, bytes_per_message: float = 0.0, messages_per_sample: int = 1000, interval_ns: int = 100_000_000) -> Trace:
    messages = [i * messages_per_sample for i in range(count)]
    return Trace(
        t_ns=tuple(i * interval_ns for i in range(count)),
        resident_bytes=tuple(100_000_000 + int(done * bytes_per_message) for done in messages),
        messages=tuple(messages),
    )


# -- truth and verdict ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("leak", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_judge_leak_below_the_limit_never_fails(kind: str, leak: float, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed, leak=leak))

    assert result.verdict is not Verdict.FAIL, result.reason


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("leak", [10.0, 15.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_judge_leak_at_or_above_the_limit_never_passes(kind: str, leak: float, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed, leak=leak))

    assert result.verdict is not Verdict.PASS, result.reason


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ALWAYS_CLEAR)
def test_judge_leak_without_leak_passes(kind: str, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed))

    assert result.verdict is Verdict.PASS, result.reason


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("leak", [30.0, 100.0, 1000.0])
@pytest.mark.parametrize("kind", [*ALWAYS_CLEAR, "late"])
def test_judge_leak_three_times_the_limit_fails(kind: str, leak: float, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed, leak=leak))

    assert result.verdict is Verdict.FAIL, result.reason


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_judge_leak_of_1000_bytes_fails_whatever_hides_it(kind: str, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed, leak=1000.0))

    assert result.verdict is Verdict.FAIL, result.reason


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["flat", "spikes", "missing", "fault"])
def test_judge_leak_of_10_bytes_under_a_limit_of_5_fails(kind: str, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed, leak=10.0), limit_bytes_per_message=5.0)

    assert result.verdict is Verdict.FAIL, result.reason


def test_judge_leak_interval_holds_the_truth() -> None:
    for seed in range(20):
        memory = judge_leak(memory_only("sawtooth", seed=seed, leak=20.0)).memory

        assert memory.lower is not None
        assert memory.upper is not None
        assert memory.lower < 20.0 < memory.upper


# -- the second load -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["long warm-up", "step", "staircase"])
def test_judge_leak_growth_that_does_not_come_again_passes(kind: str, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed, second_load=True))

    assert result.verdict is Verdict.PASS, result.reason
    assert result.second_ratio is not None
    assert abs(result.second_ratio) < 0.2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["flat", "long warm-up", "step"])
def test_judge_leak_growth_that_comes_again_is_never_passed(kind: str, seed: int) -> None:
    result = judge_leak(memory_only(kind, seed=seed, leak=30.0, second_load=True))

    assert result.verdict is Verdict.FAIL, result.reason
    assert result.retained is not None
    assert result.retained.bytes_per_message is not None
    assert result.retained.bytes_per_message > 29.0


# -- no evidence ---------------------------------------------------------------------------------------------------------------------------


def test_judge_leak_no_samples_is_unknown() -> None:
    result = judge_leak(Trace(t_ns=(), resident_bytes=(), messages=()))

    assert result.verdict is Verdict.UNKNOWN
    assert "no samples" in result.reason


def test_judge_leak_too_few_messages_is_unknown_and_says_how_many_more() -> None:
    result = judge_leak(ramp(600, messages_per_sample=10))

    assert result.verdict is Verdict.UNKNOWN
    assert "too short" in result.reason
    assert result.memory.more is not None
    longer = judge_leak(ramp(600, messages_per_sample=10 + int(result.memory.more * 1.3 / 600)))
    assert longer.verdict is Verdict.PASS, longer.reason


@pytest.mark.parametrize("reading", [None, 0])
def test_judge_leak_unreadable_memory_is_unknown(reading: int | None) -> None:
    trace = msgspec.structs.replace(ramp(1000), resident_bytes=(reading,) * 1000)

    result = judge_leak(trace)

    assert result.verdict is Verdict.UNKNOWN
    assert "unreadable" in result.reason


def test_judge_leak_unreadable_descriptors_are_unknown_not_zero() -> None:
    trace = msgspec.structs.replace(ramp(1000), descriptors=(None,) * 1000)

    result = judge_leak(trace)

    assert result.memory.verdict is Verdict.PASS
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason.startswith("descriptors: figures unreadable")


def test_judge_leak_large_gap_is_unknown() -> None:
    whole = ramp(1000)
    kept = [*range(300), *range(900, 1000)]

    result = judge_leak(
        Trace(
            t_ns=tuple(whole.t_ns[i] for i in kept),
            resident_bytes=tuple(whole.resident_bytes[i] for i in kept),
            messages=tuple((whole.messages or ())[i] for i in kept),
        )
    )

    assert result.verdict is Verdict.UNKNOWN
    assert "figures missing" in result.reason


# -- the other columns ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_judge_leak_one_descriptor_per_thousand_messages_fails(seed: int) -> None:
    result = judge_leak(make("flat", seed=seed, descriptors_per_thousand=1.0))

    assert result.verdict is Verdict.FAIL
    assert result.memory.verdict is Verdict.PASS
    assert result.descriptors is not None
    assert result.descriptors.slope == pytest.approx(1.0, abs=0.05)
    assert result.descriptors.unit == "per 1,000 messages"


@pytest.mark.parametrize("seed", SEEDS)
def test_judge_leak_steady_descriptors_and_threads_pass(seed: int) -> None:
    result = judge_leak(make("flat", seed=seed))

    assert result.verdict is Verdict.PASS, result.reason
    assert result.threads is not None
    assert result.threads.slope == 0.0


def test_judge_leak_growth_of_shared_pages_only_is_unknown() -> None:
    growing = ramp(1000, bytes_per_message=50.0)

    result = judge_leak(msgspec.structs.replace(growing, unique_bytes=(80_000_000,) * 1000))

    assert judge_leak(growing).verdict is Verdict.FAIL
    assert result.verdict is Verdict.UNKNOWN
    assert "shared or file-backed" in result.reason


def test_judge_leak_unique_memory_that_grows_too_confirms() -> None:
    growing = ramp(1000, bytes_per_message=50.0)

    result = judge_leak(msgspec.structs.replace(growing, unique_bytes=growing.resident_bytes))

    assert result.verdict is Verdict.FAIL


# -- windows, marks and units --------------------------------------------------------------------------------------------------------------


def test_judge_leak_peak_in_a_left_out_window_is_held_to_the_ceiling() -> None:
    steady = ramp(1000)
    resident = list(steady.resident_bytes)
    resident[500:550] = [900_000_000] * 50
    trace = msgspec.structs.replace(
        steady, resident_bytes=tuple(resident), left_out=(Window(start_ns=50_000_000_000, end_ns=54_900_000_000),)
    )

    assert judge_leak(trace).verdict is Verdict.PASS
    assert judge_leak(trace).peak_bytes == 900_000_000
    assert judge_leak(trace, peak_limit_bytes=800e6).verdict is Verdict.FAIL
    assert judge_leak(trace, peak_limit_bytes=1e9).verdict is Verdict.PASS


def test_judge_leak_known_warm_up_is_used() -> None:
    result = judge_leak(msgspec.structs.replace(ramp(1000), warm_until_ns=30_000_000_000))

    assert result.memory.warm_up == 300_000
    assert result.memory.warm_up_why == "given by the caller"


def test_judge_leak_units_per_message_and_per_hour_agree() -> None:
    result = judge_leak(ramp(1000, bytes_per_message=50.0))  # 10,000 messages a second

    assert result.bytes_per_message == pytest.approx(50.0, rel=0.001)
    assert result.bytes_per_hour == pytest.approx(50.0 * 10_000 * 3600, rel=0.001)
    assert result.memory.unit == "B/message"


@pytest.mark.parametrize(("bytes_per_sample", "verdict"), [(0, Verdict.PASS), (1000, Verdict.FAIL)])
def test_judge_leak_without_messages_is_judged_by_time(bytes_per_sample: int, verdict: Verdict) -> None:
    # One sample every 10 s for 2.8 h: 1,000 bytes a sample are 360 KB/h, so the limit is set to 100 KB/h and an allocator is taken away.
    trace = Trace(
        t_ns=tuple(i * 10_000_000_000 for i in range(1000)),
        resident_bytes=tuple(50_000_000 + i * bytes_per_sample for i in range(1000)),
    )

    result = judge_leak(trace, limit_bytes_per_hour=100_000.0, grain_bytes=4096.0)

    assert result.verdict is verdict, result.reason
    assert result.memory.unit == "B/h"
    assert result.bytes_per_hour == pytest.approx(bytes_per_sample * 360.0, rel=0.001)
    assert result.bytes_per_message is None


def test_judge_leak_retained_is_after_the_drain_less_before_the_load() -> None:
    trace = msgspec.structs.replace(ramp(1000, bytes_per_message=20.0), load=Window(start_ns=0, end_ns=90_000_000_000))

    result = judge_leak(trace)

    assert result.retained is not None
    assert result.retained.total_bytes == pytest.approx(20 * 999_000, rel=0.01)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_judge_leak_limit_not_above_zero_is_refused(limit: float) -> None:
    with pytest.raises(UsageError, match="limit_bytes_per_message must be above 0"):
        judge_leak(ramp(100), limit_bytes_per_message=limit)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"resident_bytes": (1,)}, "resident_bytes has 1 entries for 3"),
        ({"t_ns": (0, 2, 1)}, "strictly ascending"),
        ({"messages": (0, 2, 1)}, "must not fall"),
        ({"load": Window(start_ns=0, end_ns=2), "second_load": Window(start_ns=1, end_ns=2)}, "second_load must start after"),
    ],
)
def test_trace_that_contradicts_itself_is_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        msgspec.structs.replace(ramp(3), **change)


def test_trace_of_samples_interpolates_progress() -> None:
    samples = [
        ProcessSample(t_ns=t, resident_bytes=1, unique_bytes=None, high_water_bytes=None, cpu_s=0, descriptors=None, threads=1, processes=1)
        for t in (0, 10, 10, 20, 30)
    ]

    trace = trace_of(samples, [(10, 0), (30, 200)])

    assert trace.t_ns == (0, 10, 20, 30)
    assert trace.messages == (0, 0, 100, 200)
    assert trace_of(samples).messages is None


# -- properties ----------------------------------------------------------------------------------------------------------------------------


def judged(kind: str, seed: int, leak: float) -> LeakResult:
    return judge_leak(memory_only(kind, seed=seed, leak=leak))


@pytest.mark.parametrize("kind", KINDS)
def test_judge_leak_same_trace_gives_the_same_result(kind: str) -> None:
    assert judged(kind, 7, 15.0) == judged(kind, 7, 15.0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 1000), more=st.integers(1, 10**9), leak=st.sampled_from([0.0, 15.0, 100.0]))
def test_judge_leak_constant_memory_on_top_changes_nothing(kind: str, seed: int, more: int, leak: float) -> None:
    trace = memory_only(kind, seed=seed, leak=leak)
    lifted = tuple(None if size is None else size + more for size in trace.resident_bytes)

    assert judge_leak(msgspec.structs.replace(trace, resident_bytes=lifted)).verdict is judge_leak(trace).verdict


@settings(max_examples=15, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 1000), factor=st.integers(2, 50))
def test_judge_leak_slower_clock_changes_nothing(kind: str, seed: int, factor: int) -> None:
    trace = memory_only(kind, seed=seed, leak=15.0)
    slower = tuple(t * factor for t in trace.t_ns)
    windows = tuple(Window(start_ns=window.start_ns * factor, end_ns=window.end_ns * factor) for window in trace.left_out)

    assert judge_leak(msgspec.structs.replace(trace, t_ns=slower, left_out=windows)).verdict is judge_leak(trace).verdict


@settings(max_examples=15, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 1000), leak=st.sampled_from([0.0, 10.0, 30.0, 100.0]))
def test_judge_leak_more_leak_never_turns_fail_into_pass(kind: str, seed: int, leak: float) -> None:
    before, after = judged(kind, seed, leak), judged(kind, seed, leak * 3 + 10)

    assert not (before.verdict is Verdict.FAIL and after.verdict is Verdict.PASS)


def test_make_same_seed_same_trace_and_another_seed_another() -> None:
    assert make("arenas", seed=4) == make("arenas", seed=4)
    assert make("arenas", seed=4) != make("arenas", seed=5)


@pytest.mark.parametrize("kind", KINDS)
def test_make_leak_is_what_was_asked_for(kind: str) -> None:
    """Two traces that differ in nothing but the leak differ by it at the end, give or take what an arena rounds up."""
    tight, leaky = make(kind, seed=9), make(kind, seed=9, leak_bytes_per_message=100.0)

    grown = np.array([after - before for before, after in zip(tight.resident_bytes, leaky.resident_bytes, strict=True) if before and after])

    assert 0.35 * 100e6 < grown[-1] < 1.1 * 100e6
    assert abs(grown[0]) < 1.1e6
