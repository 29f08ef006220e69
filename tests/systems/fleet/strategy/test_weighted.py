"""Weighted consistent hashing: every rule of its table, and its goals (B5)."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy import ConsistentHash, Weighted
from tests.systems.fleet.strategy.movement import fleet, moved_count, parts


def weighing(*groups: tuple[int, int]) -> list[Partition]:
    """Partitions by (count, weight)."""
    weights = [weight for count, weight in groups for _ in range(count)]
    return [Partition(keys=(f"p{number}",), weight=weight) for number, weight in enumerate(weights)]


def skewed(count: int, seed: int = 1) -> list[Partition]:
    """A tenth of them five times as heavy, which ones is drawn."""
    heavy = set(Random(seed).sample(range(count), count // 10))
    return [Partition(keys=(f"p{number}",), weight=500 if number in heavy else 100) for number in range(count)]


def loads(assigned: dict[str, list[Partition]]) -> list[int]:
    return [sum(partition.weight or 1 for partition in theirs) for theirs in assigned.values()]


def test_weighted_of_ten_light_five_double_two_heavy_on_four_stays_near_the_mean() -> None:
    told = loads(Weighted().assign(fleet(4), weighing((10, 1), (5, 2), (2, 5))))

    assert sum(told) == 30
    assert max(abs(load - 7.5) for load in told) <= 0.65 * 7.5


@pytest.mark.parametrize(("workers", "partitions"), [(16, 1000), (64, 5000), (128, 10_000)])
@pytest.mark.parametrize("seed", range(5))
def test_weighted_of_a_skewed_load_keeps_each_worker_within_a_third_above_the_mean(workers: int, partitions: int, seed: int) -> None:
    told = loads(Weighted(seed=seed).assign(fleet(workers), skewed(partitions)))

    mean = sum(told) / workers
    assert max(told) <= 1.3 * mean
    assert min(told) >= 0.6 * mean  # the ring's own unevenness: a worker with a small share of it gets no more than falls to it


@pytest.mark.parametrize("seed", range(5))
def test_weighted_from_a_hundred_to_a_hundred_and_ten_workers_moves_hardly_more_than_it_must(seed: int) -> None:
    strategy, partitions = Weighted(seed=seed), skewed(5000)
    before = strategy.assign(fleet(100), partitions)
    after = strategy.assign(fleet(110), partitions, before)

    must = 5000 * 10 / 110
    assert moved_count(before, after) < 1.15 * must


def test_weighted_as_it_comes_from_a_hundred_to_a_hundred_and_ten_workers_moves_less_than_a_tenth() -> None:
    for partitions in (skewed(5000), parts(5000)):
        before = Weighted().assign(fleet(100), partitions)

        assert moved_count(before, Weighted().assign(fleet(110), partitions, before)) < 500


def test_weighted_with_who_has_what_keeps_the_heavy_ones_and_without_deals_them_anew() -> None:
    strategy, partitions = Weighted(), weighing((900, 1), (100, 50))
    before = strategy.assign(fleet(10), partitions)
    heavy = [partition for partition in partitions if partition.weight == 50]

    def moved_heavy(after: dict[str, list[Partition]]) -> int:
        chosen = {worker: [p for p in theirs if p.weight == 50] for worker, theirs in after.items()}
        return moved_count(before, chosen)

    told = moved_heavy(strategy.assign(fleet(11), partitions, before))
    untold = moved_heavy(strategy.assign(fleet(11), partitions))

    assert told == len(heavy) // 11  # the newcomer's share, and nothing else
    assert untold > 3 * told


def test_weighted_with_heavy_ones_of_equal_weight_deals_them_in_turns() -> None:
    assigned = Weighted().assign(fleet(4), weighing((200, 1), (10, 50)))

    heavy_counts = sorted(sum(partition.weight == 50 for partition in theirs) for theirs in assigned.values())
    assert heavy_counts == [2, 2, 3, 3]


def test_weighted_with_a_partition_at_the_threshold_leaves_it_on_the_ring() -> None:
    partitions = weighing((3, 1), (1, 3))  # average 1.5: the last is exactly twice that
    strategy, plain = Weighted(), ConsistentHash(bound=0)

    assigned = strategy.assign(fleet(1), partitions)
    eager = Weighted(extreme=1.5).assign(fleet(3), partitions)

    assert len(assigned["worker-0"]) == 4
    assert plain.assign(fleet(3), partitions).keys() == eager.keys()


@given(weight=st.integers(0, 500), workers=st.integers(1, 20), count=st.integers(0, 100))
def test_weighted_of_equal_weights_is_plain_consistent_hashing(weight: int, workers: int, count: int) -> None:
    partitions = [Partition(keys=(str(number),), weight=weight) for number in range(count)]

    assert Weighted().assign(fleet(workers), partitions) == ConsistentHash().assign(fleet(workers), partitions)


@given(
    weights=st.lists(st.sampled_from([0, 1, 2, 3, 8, 100]), min_size=1, max_size=100),
    workers=st.integers(1, 12),
    overload=st.sampled_from([1.15, 1.3, 2.0]),
)
def test_weighted_of_anything_exceeds_the_cap_only_where_a_partition_does_not_fit_elsewhere(
    weights: list[int], workers: int, overload: float
) -> None:
    partitions = [Partition(keys=(str(number),), weight=weight) for number, weight in enumerate(weights)]

    told = loads(Weighted(overload=overload).assign(fleet(workers), partitions))

    total, heaviest = sum(weight or 1 for weight in weights), max(weight or 1 for weight in weights)
    if len(set(weights)) > 1:
        assert max(told) <= max(overload * total / workers, total / workers + heaviest)


@given(
    weights=st.lists(st.sampled_from([1, 2, 3, 8, 100]), max_size=100),
    workers=st.integers(1, 12),
    changes=st.lists(st.integers(1, 12), max_size=3),
)
def test_weighted_asked_again_when_nothing_has_changed_moves_nothing(weights: list[int], workers: int, changes: list[int]) -> None:
    strategy = Weighted()
    partitions = [Partition(keys=(str(number),), weight=weight) for number, weight in enumerate(weights)]
    assigned: dict[str, list[Partition]] = {}
    for count in [*changes, workers]:
        assigned = strategy.assign(fleet(count), partitions, assigned)

    assert strategy.assign(fleet(workers), partitions, assigned) == assigned


def test_weighted_with_a_weight_that_is_missing_counts_it_as_one() -> None:
    missing = [Partition(keys=(str(number),), weight=0 if number % 2 else 2) for number in range(100)]
    said = [Partition(keys=(str(number),), weight=1 if number % 2 else 2) for number in range(100)]

    with_missing = Weighted().assign(fleet(4), missing)
    with_said = Weighted().assign(fleet(4), said)

    assert {w: [p.keys for p in ps] for w, ps in with_missing.items()} == {w: [p.keys for p in ps] for w, ps in with_said.items()}


@pytest.mark.parametrize("wrong", [{"overload": 1.14}, {"extreme": 1.49}, {"overload": float("nan")}, {"virtual_nodes": 1}], ids=str)
def test_weighted_with_settings_out_of_range_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Weighted(**wrong)  # type: ignore[arg-type]


@pytest.mark.alone
def test_weighted_of_equal_weights_costs_hardly_more_than_plain() -> None:
    workers, partitions = fleet(64), parts(5000)
    plain, weighted = ConsistentHash(), Weighted()

    def spent_s(strategy: ConsistentHash | Weighted) -> float:
        began_s = time.process_time()
        for _ in range(5):
            strategy.assign(workers, partitions)
        return time.process_time() - began_s

    spent_s(plain), spent_s(weighted)
    spent = [
        (spent_s(weighted), spent_s(plain)) for _ in range(25)
    ]  # in turns, and the least of each: what others did meanwhile is not ours

    # The aim is 5 %; looking at the weights is 3 % to 4 %, and a shared machine adds its noise.
    assert min(one for one, _ in spent) < 1.1 * min(other for _, other in spent)
