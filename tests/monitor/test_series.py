"""The bounded list against the unbounded one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.monitor.series import Series


@given(capacity=st.integers(2, 50), count=st.integers(0, 2000))
def test_series_any_length_keeps_every_nth_within_its_capacity(capacity: int, count: int) -> None:
    series: Series[int] = Series(capacity)

    for item in range(count):
        series.add(item)

    assert list(series) == list(range(0, count, series.keep_every))
    assert len(series) <= capacity
    assert series.added_count == count
    # It never thins more than it must: half of the capacity is in use, at least.
    assert series.keep_every == 1 or len(series) >= capacity // 2


def test_series_capacity_of_one_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="capacity_count"):
        Series(1)
