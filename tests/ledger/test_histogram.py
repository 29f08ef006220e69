"""The histogram is the hdrhistogram library's, only faster: same buckets, percentiles and encoding."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.ledger.histogram import COUNTS_LEN, HIGHEST_NS, Histogram
from floodmark.model.result import LatencySummary

VALUES = st.lists(st.one_of(st.integers(0, 5000), st.integers(0, HIGHEST_NS)), max_size=60)
PERCENTS = [0.0, 1.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 100.0]


def recorded(values_ns: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record(values_ns)
    return histogram


def library(values_ns: list[int]) -> HdrHistogram:
    histogram = HdrHistogram(1, HIGHEST_NS, 3)
    for value_ns in values_ns:
        histogram.record_value(value_ns)
    return histogram


@given(VALUES)
def test_percentiles_any_values_equal_the_library(values_ns: list[int]) -> None:
    ours, theirs = recorded(values_ns), library(values_ns)

    assert theirs.counts_len == COUNTS_LEN
    assert ours.percentiles(PERCENTS) == [theirs.get_value_at_percentile(percent) for percent in PERCENTS]


@given(VALUES)
def test_encode_any_values_is_read_by_the_library_and_back(values_ns: list[int]) -> None:
    ours = recorded(values_ns)

    theirs = HdrHistogram.decode(ours.encode())

    assert [theirs.get_value_at_percentile(percent) for percent in PERCENTS] == ours.percentiles(PERCENTS)
    assert theirs.get_total_count() == len(values_ns)
    assert np.array_equal(Histogram.decode(library(values_ns).encode()).counts, ours.counts)
    assert np.array_equal(Histogram.decode(ours.encode()).counts, ours.counts)


def test_encode_counts_of_many_bytes_survive() -> None:
    histogram = Histogram()
    histogram.counts[[0, 5, 6, COUNTS_LEN - 2000]] = [1, 2**20, 2**40, 2**61]

    again = Histogram.decode(histogram.encode())

    assert np.array_equal(again.counts, histogram.counts)


@given(VALUES, VALUES)
def test_merge_and_diff_equal_the_whole(first_ns: list[int], second_ns: list[int]) -> None:
    histogram = recorded(first_ns)
    earlier = histogram.copy()

    histogram.merge(recorded(second_ns))

    assert np.array_equal(histogram.counts, recorded(first_ns + second_ns).counts)
    assert np.array_equal(histogram.diff(earlier).counts, recorded(second_ns).counts)


def test_record_out_of_range_is_counted_apart_and_not_dropped() -> None:
    histogram = recorded([-5, -1, 10, HIGHEST_NS + 1, 2**62])

    assert (histogram.negative_count, histogram.clipped_count, histogram.count) == (2, 2, 3)
    assert histogram.percentile(100) >= HIGHEST_NS
    assert recorded([HIGHEST_NS]).clipped_count == 0


def test_wire_round_trip_is_sparse_and_complete() -> None:
    histogram = recorded([-1, 3, 3, 10**6, 10**13])

    data = histogram.to_wire()
    again = Histogram.from_wire(data)

    assert len(data) < 100
    assert np.array_equal(again.counts, histogram.counts)
    assert (again.negative_count, again.clipped_count) == (1, 1)


def test_take_gives_the_interval_and_starts_anew() -> None:
    histogram = recorded([1, 2, 3, -1])

    taken = histogram.take()
    histogram.record([7])

    assert (taken.count, taken.negative_count) == (3, 1)
    assert (histogram.count, histogram.negative_count, histogram.percentile(50)) == (1, 0, 7)


def test_summary_of_nothing_is_all_zero() -> None:
    assert Histogram().summary() == LatencySummary()


def test_summary_has_three_significant_digits() -> None:
    summary = recorded(list(range(1, 100_001))).summary()

    assert summary.count == 100_000
    assert summary.p50 == pytest.approx(50_000, rel=1e-3)
    assert summary.p99 == pytest.approx(99_000, rel=1e-3)
    assert summary.max == pytest.approx(100_000, rel=1e-3)


def test_diff_of_unrelated_histograms_is_refused() -> None:
    with pytest.raises(UsageError, match="not two states"):
        recorded([1]).diff(recorded([2]))


def test_decode_of_another_range_is_refused() -> None:
    with pytest.raises(UsageError, match="only 1 "):
        Histogram.decode(HdrHistogram(1, 1000, 2).encode())
