"""Round robin: counts differ by one at most (B4)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.strategy import RoundRobin
from tests.systems.fleet.strategy.movement import fleet, parts


def test_round_robin_of_a_hundred_on_seven_gives_fourteen_or_fifteen() -> None:
    counts = [len(theirs) for theirs in RoundRobin().assign(fleet(7), parts(100)).values()]

    assert sorted(set(counts)) == [14, 15]


@given(workers=st.integers(1, 40), partitions=st.integers(0, 200))
def test_round_robin_of_any_size_differs_by_one_at_most(workers: int, partitions: int) -> None:
    counts = [len(theirs) for theirs in RoundRobin().assign(fleet(workers), parts(partitions)).values()]

    assert max(counts) - min(counts) <= 1
