"""Reports become bins: nothing is lost or made up on the way, and a report that comes late tears no hole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.ledger.histogram import Histogram
from floodmark.runner import timeline
from floodmark.runner.timeline import BIN_NS, Timeline
from floodmark.runner.wire import Progress

EMPTY = Histogram().to_wire()


def report(at_ns: int, published: int, received: int, *latencies_ns: int) -> Progress:
    response = Histogram()
    response.record(list(latencies_ns))
    return Progress(
        at_ns=at_ns,
        connections=1,
        seen=1,
        published=published,
        acknowledged=0,
        pending=0,
        received=received,
        disconnects=0,
        last_received_ns=0,
        response=response.to_wire(),
        service=EMPTY,
        lag=EMPTY,
    )


def test_timeline_reports_off_the_beat_leave_an_even_rate_even() -> None:
    seen = Timeline()
    for at in (0.0, 0.99, 2.01, 2.99, 4.0):  # in bins, of which the first one lies before 0
        seen.add(0, report(int(at * BIN_NS), int(at * 100), int(at * 1000)))

    assert [one.published for one in seen.bins(0)[1:5]] == pytest.approx([100.0] * 4, rel=0.02)
    assert [one.delivered for one in seen.bins(0)[1:5]] == pytest.approx([1000.0] * 4, rel=0.02)


def test_timeline_an_agent_that_was_silent_for_long_is_spread_over_its_silence() -> None:
    seen = Timeline()
    seen.add(0, report(0, 0, 0))
    seen.add(0, report(8 * BIN_NS, 80, 800))

    assert [one.delivered for one in seen.bins(0)[1:9]] == pytest.approx([100.0] * 8)


@given(steps=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3 * BIN_NS), st.integers(0, 50)), max_size=30))
def test_timeline_bins_add_up_to_what_was_reported(steps: list[tuple[int, int, int]]) -> None:
    seen, at_ns, totals = Timeline(), [BIN_NS, BIN_NS], [0, 0]
    for agent, step_ns, count in steps:
        at_ns[agent] += step_ns
        totals[agent] += count
        seen.add(agent, report(at_ns[agent], totals[agent], 2 * totals[agent]))

    assert sum(one.published for one in seen.bins(0)) == pytest.approx(sum(totals))
    assert sum(one.delivered for one in seen.bins(0)) == pytest.approx(2 * sum(totals))
    assert [total for _, total in seen.progress()][-1:] in ([], [2 * sum(totals)])


def test_stretch_sums_whole_bins_and_their_latencies() -> None:
    seen = Timeline()
    for number in range(9):
        seen.add(0, report(number * BIN_NS, number * 10, number * 100, 1_000_000 if number < 4 else 9_000_000))

    early, late = seen.stretch(0, 4 * BIN_NS), seen.stretch(4 * BIN_NS - 1, 8 * BIN_NS + 1)

    assert (early.duration_s, early.published, early.delivered) == (1.0, 40.0, 400.0)
    assert (late.duration_s, late.published, late.delivered) == (1.0, 40.0, 400.0)
    assert early.response is not None
    assert late.response is not None
    assert early.response.percentile(99) == pytest.approx(1_000_000, rel=0.01)
    assert late.response.percentile(1) == pytest.approx(9_000_000, rel=0.01)


def test_stretch_shorter_than_a_bin_holds_nothing() -> None:
    seen = Timeline()
    seen.add(0, report(BIN_NS, 10, 100, 1_000_000))

    stretch = seen.stretch(1, BIN_NS)

    assert (stretch.duration_s, stretch.published, stretch.delivered) == (0.0, 0.0, 0.0)


def test_stretch_beyond_the_memory_for_latencies_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "LATENCIES_BYTES", 3 * len(report(0, 0, 0, 1_000_000).response))
    seen = Timeline()
    for number in range(9):
        seen.add(0, report(number * BIN_NS, number, number, 1_000_000))

    assert seen.stretch(0, 3 * BIN_NS).response is not None
    assert seen.stretch(0, 8 * BIN_NS).response is None


def test_timeline_marks_are_found_from_a_moment_on() -> None:
    seen = Timeline()
    for at_ns in (30, 10, 20):
        seen.mark("storm", at_ns)

    assert [seen.marked_ns("storm", since_ns) for since_ns in (0, 10, 11, 31)] == [10, 10, 20, None]
    assert seen.marked_ns("calm", 0) is None
