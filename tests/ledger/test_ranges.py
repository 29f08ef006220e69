"""Ranges behave as the set they stand for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from floodmark.ledger.ranges import RangeIndex, Ranges

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=30)


def build(spans: list[tuple[int, int]]) -> tuple[Ranges, set[int]]:
    ranges, numbers = Ranges(), set[int]()
    for start, length in spans:
        new = set(range(start, start + length)) - numbers
        assert ranges.add(start, start + length) == len(new)
        numbers |= new
    return ranges, numbers


@given(SPANS)
def test_ranges_any_additions_hold_the_same_numbers_as_a_set(spans: list[tuple[int, int]]) -> None:
    ranges, numbers = build(spans)

    assert {n for start, end in ranges for n in range(start, end)} == numbers
    assert ranges.total == len(numbers)
    assert [n in ranges for n in range(50)] == [n in numbers for n in range(50)]
    assert all(end < start for end, start in zip(ranges.ends[:-1], ranges.starts[1:], strict=True))


@given(SPANS, st.integers(0, 50), st.integers(0, 50))
def test_ranges_within_gives_the_part_inside(spans: list[tuple[int, int]], low: int, high: int) -> None:
    ranges, numbers = build(spans)

    assert {n for start, end in ranges.within(low, high) for n in range(start, end)} == {n for n in numbers if low <= n < high}


@given(st.dictionaries(st.integers(0, 4), SPANS))
def test_range_index_below_counts_like_a_set(spans_of: dict[int, list[tuple[int, int]]]) -> None:
    built = {publisher: build(spans) for publisher, spans in spans_of.items()}
    index = RangeIndex({p: ranges for p, (ranges, _) in built.items()}, publishers=5, limit=60)
    publishers, numbers = np.repeat(np.arange(5), 60), np.tile(np.arange(60), 5)

    below = index.below(publishers, numbers)

    held = {p: numbers for p, (_, numbers) in built.items()}
    assert below.tolist() == [sum(n < x for n in held.get(p, ())) for p in range(5) for x in range(60)]
