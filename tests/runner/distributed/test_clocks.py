"""Offsets from round trips: never wrong by more than they say, whatever the path does and however the clock drifts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floodmark.runner.distributed.clocks import Offset, RoundTrip, best_of, between_agents_ns

MS = 1_000_000


def trip(at_ns: int, ahead_ns: int, there_ns: int, back_ns: int) -> RoundTrip:
    """A question that took so long there, and its answer so long back, of a clock that is so far ahead."""
    return RoundTrip(at_ns, at_ns + there_ns + ahead_ns, at_ns + there_ns + back_ns)


ways = st.tuples(st.integers(0, 50 * MS), st.integers(0, 50 * MS))


@given(st.integers(-(10**15), 10**15), st.lists(ways, min_size=1, max_size=20))
def test_offset_of_a_steady_clock_is_within_its_uncertainty_however_lopsided_the_path(ahead_ns: int, paths: list[tuple[int, int]]) -> None:
    offset = Offset()

    offset.look([trip(1000 * MS * number, ahead_ns, *path) for number, path in enumerate(paths)])

    assert abs(offset.offset_ns - ahead_ns) <= offset.uncertainty_ns
    assert offset.uncertainty_ns == (min(sum(path) for path in paths) + 1) // 2


@given(st.floats(-500, 500), st.lists(ways, min_size=2, max_size=10))
def test_offset_of_a_drifting_clock_is_within_its_uncertainty_at_each_look(drift_ppm: float, paths: list[tuple[int, int]]) -> None:
    offset = Offset()
    ahead = []

    for number, path in enumerate(paths):
        at_ns = number * 10**10
        ahead_ns = int(at_ns * drift_ppm / 1e6)
        ahead.append(ahead_ns)
        offset.look([trip(at_ns, ahead_ns, *path)])

    assert all(abs(offset.offset_ns - ahead_ns) <= offset.uncertainty_ns for ahead_ns in ahead)


def test_drift_is_told_in_millionths() -> None:
    offset = Offset()

    offset.look([trip(0, 0, MS, MS)])
    offset.look([trip(10**10, 10**6, MS, MS)])  # 1 ms in 10 s

    assert round(offset.drift_ppm) == 100
    assert offset.offset_ns == 0
    assert offset.uncertainty_ns == 2 * MS


def test_clock_that_never_answered_is_not_known() -> None:
    offset = Offset()

    offset.look([])

    assert not offset.known
    assert best_of([]) is None


def test_latency_between_agents_is_as_uncertain_as_the_two_worst_clocks() -> None:
    assert between_agents_ns([3, 5, 1]) == 8
    assert between_agents_ns([5]) == 0  # one clock stamps and receives
    assert between_agents_ns([]) == 0
