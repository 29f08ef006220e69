"""Thinning keeps what matters of a curve, whatever the curve."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floodmark.report.series import Curve, mark_rows, thin, timeline

VALUES = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=300)


@given(VALUES, st.integers(min_value=4, max_value=50))
def test_thin_any_curve_keeps_its_extremes_and_its_order(values: list[float], points: int) -> None:
    curve = Curve([float(t_s) for t_s in range(len(values))], values)

    thinned = thin(curve, points=points)

    assert len(thinned.t_s) <= max(points, 4)
    assert (max(thinned.values), min(thinned.values)) == (max(values), min(values))
    assert thinned.t_s == sorted(set(thinned.t_s))
    assert all(values[int(t_s)] == value for t_s, value in zip(thinned.t_s, thinned.values, strict=True))


def test_thin_short_curve_is_left_alone() -> None:
    curve = Curve([0.0, 1.0], [3.0, 4.0])

    assert thin(curve, points=4) is curve


def test_timeline_of_mark_rows_gives_the_marks_back_in_order() -> None:
    marks = [(2.0, "fault: reset"), (0.0, "phase: steady")]

    seen = timeline(mark_rows(marks))

    assert [tuple(mark) for mark in seen.marks] == sorted(marks)
    assert seen.curves == {}
