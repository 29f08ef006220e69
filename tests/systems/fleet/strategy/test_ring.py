"""The ring against a slow, obvious one."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy.ring import Ring, RingCache, point_of, points_of

NODES = 100


def slow_owner(workers: list[str], partition: Partition, seed: int) -> int:
    """The worker of the first point at or after the partition's, around the ring."""
    around = sorted((point_of((worker, str(node)), seed), index) for index, worker in enumerate(workers) for node in range(NODES))
    point = point_of(partition.keys, seed)
    return next((index for at, index in around if at >= point), around[0][1])


@given(count=st.integers(1, 6), numbers=st.sets(st.integers(0, 10_000), max_size=30), seed=st.integers(0, 2**64 - 1))
def test_ring_for_any_partitions_agrees_with_a_search_along_it(count: int, numbers: set[int], seed: int) -> None:
    workers = [f"w{number}" for number in range(count)]
    partitions = [Partition(keys=("x", str(number))) for number in sorted(numbers)]
    ring = Ring(workers, virtual_nodes=NODES, seed=seed)

    owners = ring.owners(points_of(partitions, seed)).tolist()

    assert owners == [slow_owner(workers, partition, seed) for partition in partitions]


@given(count=st.integers(1, 8), partitions=st.integers(0, 120), bound=st.sampled_from([1.05, 1.25, 2.0]))
def test_ring_with_a_bound_gives_nobody_more_and_moves_only_what_does_not_fit(count: int, partitions: int, bound: float) -> None:
    ring = Ring([f"w{number}" for number in range(count)], virtual_nodes=NODES, seed=3)
    points = points_of([Partition(keys=(str(number),)) for number in range(partitions)], 3)
    most = math.ceil(bound * partitions / count)

    free = ring.owners(points).tolist()
    bounded = ring.owners_bounded(points, most).tolist()

    assert max(Counter(bounded).values(), default=0) <= most
    surplus = sum(max(0, had - most) for had in Counter(free).values())
    assert sum(one != other for one, other in zip(free, bounded, strict=True)) == surplus


def test_ring_cache_asked_for_the_same_workers_gives_the_same_ring() -> None:
    cache = RingCache(virtual_nodes=NODES, seed=0)

    first, same, other = cache.ring(["a", "b"]), cache.ring(["a", "b"]), cache.ring(["a", "c"])

    assert first is same
    assert other is not first


def test_point_of_known_parts_never_changes() -> None:
    # XXH64 of "a" with seed 0 as its specification has it; the second is chained onto it.
    assert point_of(("a",), 0) == 0xD24EC4F1A98C6E5B
    assert point_of(("a", "b"), 0) == point_of(("b",), 0xD24EC4F1A98C6E5B)
