"""Traces and their drawing: bounded, no peak lost, every dot where it belongs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from floodmark.live.plot import BLANK, NOBODY, draw, round_up
from floodmark.live.trace import Trace

VALUES = some.lists(some.floats(0, 1e9, allow_nan=False), min_size=1, max_size=2_000)


def traced(values: list[float], *, capacity_count: int = 512) -> Trace:
    trace = Trace(capacity_count=capacity_count)
    for t_s, value in enumerate(values):
        trace.add(float(t_s), value)
    return trace


@given(values=VALUES, capacity_count=some.integers(2, 64))
def test_trace_any_length_keeps_its_bound_its_peaks_and_its_last(values: list[float], capacity_count: int) -> None:
    trace = traced(values, capacity_count=capacity_count)

    points = list(trace)
    assert 1 <= len(points) <= capacity_count
    assert min(point.lowest for point in points) == min(values)
    assert trace.highest == max(point.highest for point in points) == max(values)
    assert points[-1].last == values[-1]
    assert [point.t_s for point in points] == sorted(point.t_s for point in points)


def test_trace_value_of_the_past_counts_as_of_now() -> None:
    trace = Trace()
    trace.add(5.0, 1.0)
    trace.add(3.0, 2.0)

    assert [point.t_s for point in trace] == [5.0, 5.0]


def test_trace_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="two points"):
        Trace(capacity_count=1)


@given(value=some.floats(1e-6, 1e15))
def test_round_up_is_no_less_and_not_far_away(value: float) -> None:
    assert value * 0.999 <= round_up(value) <= 2 * value


def test_draw_nothing_is_blank() -> None:
    drawn = draw([Trace()], columns=5, rows=2, until_s=1.0, top=1.0)

    assert [[cell.character for cell in row] for row in drawn] == [[BLANK] * 5] * 2
    assert all(cell.curve == NOBODY for row in drawn for cell in row)


def test_draw_steady_value_is_a_line_at_its_height() -> None:
    drawn = draw([traced([0.5] * 11)], columns=10, rows=4, until_s=10.0, top=1.0)

    owners = [[cell.curve for cell in row] for row in drawn]
    assert owners[0] == owners[3] == [NOBODY] * 10
    assert sum(row == [0] * 10 for row in owners) == 1


def test_draw_peak_of_one_point_reaches_the_top() -> None:
    drawn = draw([traced([0.0] * 300 + [1.0] + [0.0] * 300)], columns=10, rows=3, until_s=600.0, top=1.0)

    assert any(cell.curve == 0 for cell in drawn[0])
    assert sum(cell.curve == 0 for cell in drawn[0]) <= 2


def test_draw_where_curves_meet_the_first_has_the_colour_and_no_dot_is_lost() -> None:
    low, high = traced([0.0, 0.0]), traced([1.0, 1.0])

    both = draw([low, high], columns=4, rows=1, until_s=1.0, top=1.0)
    alone = [draw([one], columns=4, rows=1, until_s=1.0, top=1.0)[0] for one in (low, high)]

    assert [cell.curve for cell in both[0]] == [0] * 4
    assert [ord(cell.character) for cell in both[0]] == [ord(a.character) | ord(b.character) for a, b in zip(*alone, strict=True)]


@given(values=VALUES, columns=some.integers(1, 60), rows=some.integers(1, 12), top=some.floats(0, 1e9))
def test_draw_any_curve_fits_its_place(values: list[float], columns: int, rows: int, top: float) -> None:
    drawn = draw([traced(values)], columns=columns, rows=rows, until_s=len(values) / 2, top=top)

    assert len(drawn) == rows
    assert all(len(row) == columns for row in drawn)
