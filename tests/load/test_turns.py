"""The round of sources against the shares asked for: exact after whole rounds, even within one."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from floodmark.load.turns import turns

PLAN = [100, 100, *[1_000] * 5, *[10_000] * 3]


def test_turns_without_shares_are_the_sources_in_order() -> None:
    assert turns(5).tolist() == turns(5, [3]).tolist() == turns(5, [7] * 5).tolist() == [0, 1, 2, 3, 4]


def test_turns_of_the_plans_sizes_give_each_channel_exactly_its_records() -> None:
    order = turns(10, PLAN)

    rounds, rest = divmod(sum(PLAN), len(order))

    assert rest == 0
    assert [count * rounds for _, count in sorted(Counter(order.tolist()).items())] == PLAN


@given(sources=st.integers(1, 30), shares=st.lists(st.integers(1, 60), min_size=1, max_size=30))
@example(sources=10, shares=PLAN)
def test_turns_in_any_part_of_a_round_are_in_proportion(sources: int, shares: list[int]) -> None:
    weights = [shares[number % len(shares)] for number in range(sources)]
    common = math.gcd(*weights)

    order = turns(sources, shares).tolist()

    assert Counter(order) == {number: weight // common for number, weight in enumerate(weights)}
    had: Counter[int] = Counter()
    for place, source in enumerate(order, 1):
        had[source] += 1
        due = Fraction(weights[source] * place, sum(weights))
        assert abs(had[source] - due) <= 1 + Fraction(weights[source] * sources, sum(weights))


@given(sources=st.integers(1, 30), shares=st.lists(st.integers(1, 60), max_size=30), factor=st.integers(1, 1000))
def test_turns_are_a_matter_of_proportion_alone(sources: int, shares: list[int], factor: int) -> None:
    assert turns(sources, shares).tolist() == turns(sources, [share * factor for share in shares]).tolist()
