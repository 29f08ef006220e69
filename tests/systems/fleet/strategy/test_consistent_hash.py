"""Consistent hashing: balance, movement, affinity, and the bound on loads (B1, B3, B15)."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.strategy import ConsistentHash
from tests.systems.fleet.strategy.movement import fleet, moved_count, parts


def test_consistent_hash_of_a_hundred_on_five_gives_each_ten_to_forty() -> None:
    counts = [len(theirs) for theirs in ConsistentHash().assign(fleet(5), parts(100)).values()]

    assert 10 <= min(counts) <= max(counts) <= 40


@pytest.mark.parametrize("seed", range(20))
def test_consistent_hash_from_three_to_four_workers_keeps_two_thirds(seed: int) -> None:
    strategy = ConsistentHash(seed=seed)
    before, after = strategy.assign(fleet(3), parts(100)), strategy.assign(fleet(4), parts(100))

    kept = 100 - moved_count(before, after)

    assert kept >= 65


def test_consistent_hash_when_a_worker_leaves_and_comes_back_gives_it_its_own_again() -> None:
    strategy = ConsistentHash()
    before = strategy.assign(fleet(10), parts(100))

    for gone in fleet(10):
        strategy.assign([worker for worker in fleet(10) if worker != gone], parts(100))
    after = ConsistentHash().assign(fleet(10), parts(100))

    assert after == before


@pytest.mark.parametrize("bound", [0.0, 1.25])
@pytest.mark.parametrize(("workers", "partitions"), [(16, 1000), (64, 5000), (128, 10_000), (1000, 100_000)])
def test_consistent_hash_on_one_more_worker_moves_less_than_one_and_a_half_times_the_ideal(
    workers: int, partitions: int, bound: float
) -> None:
    strategy = ConsistentHash(bound=bound)
    before, after = strategy.assign(fleet(workers), parts(partitions)), strategy.assign(fleet(workers + 1), parts(partitions))

    moved = moved_count(before, after)

    assert 0 < moved < 1.5 * partitions / (workers + 1)


@given(workers=st.integers(1, 30), partitions=st.integers(0, 300), seed=st.integers(0, 2**64 - 1), leaving=st.integers(0, 29))
def test_consistent_hash_without_a_bound_moves_only_what_a_leaving_worker_had(
    workers: int, partitions: int, seed: int, leaving: int
) -> None:
    strategy = ConsistentHash(seed=seed, bound=0)
    gone = f"worker-{leaving % (workers + 1)}"
    before = strategy.assign(fleet(workers + 1), parts(partitions))
    after = strategy.assign([worker for worker in fleet(workers + 1) if worker != gone], parts(partitions))

    assert moved_count(before, after) == len(before[gone])


@given(workers=st.integers(1, 30), partitions=st.integers(0, 300), bound=st.sampled_from([1.05, 1.25, 1.5]))
def test_consistent_hash_with_a_bound_gives_nobody_more(workers: int, partitions: int, bound: float) -> None:
    assigned = ConsistentHash(bound=bound).assign(fleet(workers), parts(partitions))

    assert max(len(theirs) for theirs in assigned.values()) <= math.ceil(bound * partitions / workers)


def test_consistent_hash_with_another_seed_arranges_otherwise() -> None:
    one, other = ConsistentHash(seed=1).assign(fleet(5), parts(100)), ConsistentHash(seed=2).assign(fleet(5), parts(100))

    assert moved_count(one, other) > 50


@pytest.mark.parametrize(
    "wrong",
    [{"virtual_nodes": 99}, {"virtual_nodes": 301}, {"seed": -1}, {"seed": 2**64}, {"bound": 1.0}, {"bound": float("nan")}],
    ids=str,
)
def test_consistent_hash_with_settings_out_of_range_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        ConsistentHash(**wrong)  # type: ignore[arg-type]


@pytest.mark.alone
def test_consistent_hash_of_a_hundred_thousand_on_a_thousand_takes_less_than_a_second() -> None:
    workers, partitions = fleet(1000), parts(100_000)
    began_s = time.process_time()

    ConsistentHash().assign(workers, partitions)

    assert time.process_time() - began_s < 1.0
