"""Two loads put together: what comes once is not accused, what comes again is, also within a million messages."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.model.verdict import Verdict
from floodmark.monitor.leak import Trace, Window, judge_leak
from floodmark.monitor.leak.synthetic import KINDS, make

SEEDS = (1, 2)
ONCE = ("flat", "warm-up", "long warm-up", "step", "doubling", "staircase", "late")  # in the second load nothing of it is left


def twice(kind: str, *, seed: int, leak: float) -> Trace:
    """Two loads of half a million messages each."""
    trace = make(kind, seed=seed, leak_bytes_per_message=leak, messages_count=500_000, second_load=True)
    return msgspec.structs.replace(trace, descriptors=None, threads=None)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ONCE)
def test_judge_leak_two_loads_within_a_million_messages_clear_what_comes_once(kind: str, seed: int) -> None:
    result = judge_leak(twice(kind, seed=seed, leak=0.0), limit_bytes_per_message=5.0)

    assert result.verdict is Verdict.PASS, result.reason
    assert result.decided.upper is not None
    assert result.decided.upper < 5.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ONCE)
def test_judge_leak_two_loads_within_a_million_messages_find_ten_bytes(kind: str, seed: int) -> None:
    result = judge_leak(twice(kind, seed=seed, leak=10.0), limit_bytes_per_message=5.0)

    assert result.verdict is Verdict.FAIL, result.reason
    assert result.decided.lower is not None
    assert result.decided.lower > 5.0


@pytest.mark.parametrize("kind", KINDS)
def test_judge_leak_two_loads_are_never_wrong(kind: str) -> None:
    said = {leak: judge_leak(twice(kind, seed=5, leak=leak), limit_bytes_per_message=5.0).verdict for leak in (0.0, 1.0, 5.0, 20.0)}

    assert Verdict.FAIL not in (said[0.0], said[1.0])
    assert Verdict.PASS not in (said[5.0], said[20.0])


def test_judge_leak_second_load_that_nobody_could_read_is_unknown() -> None:
    trace = twice("flat", seed=1, leak=0.0)
    assert trace.second_load is not None
    start_ns = trace.second_load.start_ns
    unread = tuple(None if at_ns >= start_ns else size for at_ns, size in zip(trace.t_ns, trace.resident_bytes, strict=True))

    result = judge_leak(msgspec.structs.replace(trace, resident_bytes=unread), limit_bytes_per_message=5.0)

    assert result.verdict is Verdict.UNKNOWN
    assert "no readable figures" in result.reason


def test_judge_leak_second_load_too_short_to_tell_is_unknown() -> None:
    trace = make("long warm-up", seed=1, messages_count=20_000, second_load=True)

    result = judge_leak(trace, limit_bytes_per_message=5.0)

    assert result.verdict is Verdict.UNKNOWN


def test_judge_leak_growth_in_the_second_load_alone_is_not_passed() -> None:
    """A leak that begins with the second load: the first one has none of it."""
    flat, leaking = twice("flat", seed=3, leak=0.0), twice("flat", seed=3, leak=20.0)
    assert flat.second_load is not None
    grown = [
        calm if at_ns < flat.second_load.start_ns else leaky
        for at_ns, calm, leaky in zip(flat.t_ns, flat.resident_bytes, leaking.resident_bytes, strict=True)
    ]

    result = judge_leak(msgspec.structs.replace(flat, resident_bytes=tuple(grown)), limit_bytes_per_message=5.0)

    assert result.verdict is Verdict.FAIL, result.reason


def test_judge_leak_fault_window_of_the_first_load_is_left_out_but_under_the_ceiling() -> None:
    trace = twice("flat", seed=2, leak=0.0)
    assert trace.load is not None
    middle_ns = (trace.load.start_ns + trace.load.end_ns) // 2
    window = Window(start_ns=middle_ns, end_ns=middle_ns + (trace.load.end_ns - middle_ns) // 3)
    swollen = tuple(
        size + 300_000_000 if size is not None and window.start_ns <= at_ns <= window.end_ns else size
        for at_ns, size in zip(trace.t_ns, trace.resident_bytes, strict=True)
    )
    blown = msgspec.structs.replace(trace, resident_bytes=swollen, left_out=(window,))

    assert judge_leak(blown, limit_bytes_per_message=5.0).verdict is Verdict.PASS
    capped = judge_leak(blown, limit_bytes_per_message=5.0, peak_limit_bytes=250e6)
    assert capped.verdict is Verdict.FAIL
    assert capped.reason.startswith("memory: peak of")
    assert capped.decided.verdict is Verdict.PASS
