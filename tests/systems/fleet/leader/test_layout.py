"""Who shall have what: coverage, what is not touched, and strategies that are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.leader.layout import Layout, StrategyError, covered, imbalance_ratio, share
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy import NOBODY, ConsistentHash, RoundRobin
from tests.systems.fleet.leader.acting import names, partitions

ALL = partitions(40)


def given_to(layout: Mapping[str, Sequence[Partition]]) -> dict[str, set[str]]:
    return {worker: {partition.id for partition in given} for worker, given in layout.items()}


@pytest.mark.parametrize("strategy", [ConsistentHash(), RoundRobin()])
def test_share_leaves_what_a_missing_worker_has_alone(strategy: ConsistentHash | RoundRobin) -> None:
    current = share(strategy, workers=set(names(4)), partitions=ALL, current={})

    layout = share(strategy, workers=set(names(3)), partitions=ALL, current=current, kept={"worker-3"})

    assert layout["worker-3"] == current["worker-3"]
    assert covered(layout) == {partition.keys for partition in ALL}


@pytest.mark.parametrize("strategy", [ConsistentHash(), RoundRobin()])
def test_share_told_that_all_stay_places_only_what_nobody_has(strategy: ConsistentHash | RoundRobin) -> None:
    current = share(strategy, workers=set(names(4)), partitions=ALL, current={})
    free = current["worker-2"][:2]
    current["worker-2"] = current["worker-2"][2:]

    layout = share(strategy, workers=set(names(4)), partitions=ALL, current=current, stay=True)

    for worker, had in given_to(current).items():
        assert had <= given_to(layout)[worker]
    assert sum(len(given) for given in layout.values()) == len(ALL)
    assert {partition.keys for partition in free} <= covered(layout)


def test_share_takes_a_partition_that_left_the_list_from_everybody_and_heeds_new_weights() -> None:
    current = share(ConsistentHash(), workers=set(names(2)), partitions=ALL, current={})
    listed = [Partition(keys=partition.keys, weight=7) for partition in ALL[:30]]

    layout = share(ConsistentHash(), workers={"worker-0"}, partitions=listed, current=current, kept={"worker-1"})

    assert covered(layout) == {partition.keys for partition in listed}
    assert {partition.weight for given in layout.values() for partition in given} == {7}


class Wrong:
    """A strategy with a planted fault."""

    def __init__(self, fault: str) -> None:
        self._fault = fault

    def assign(
        self, workers: Sequence[str], partitions: Sequence[Partition], current: Mapping[str, Sequence[Partition]] = NOBODY
    ) -> Layout:
        answer = ConsistentHash().assign(workers, partitions, current)
        first = next(worker for worker in sorted(answer) if answer[worker])
        if self._fault == "lost":
            answer[first].pop()
        elif self._fault == "twice":
            answer[first].append(answer[first][0])
        elif self._fault == "lost and twice":
            answer[first][0] = answer[first][-1]
        elif self._fault == "stranger":
            answer["nobody"] = []
        elif self._fault == "invented":
            answer[first][0] = Partition(keys=("invented",))
        return answer


@pytest.mark.parametrize("fault", ["lost", "twice", "lost and twice", "stranger", "invented"])
def test_share_with_a_strategy_that_is_wrong_gives_no_layout(fault: str) -> None:
    with pytest.raises(StrategyError, match="nothing was published"):
        share(Wrong(fault), workers=set(names(3)), partitions=ALL, current={})


def test_share_of_no_partitions_gives_everybody_an_empty_list() -> None:
    assert share(ConsistentHash(), workers=set(names(2)), partitions=[], current={}) == {"worker-0": [], "worker-1": []}


fleets = st.sets(st.sampled_from(names(6)), min_size=1)


@given(fleets, fleets, st.sets(st.sampled_from(names(6))), st.integers(0, 60), st.booleans())
def test_share_for_any_fleet_covers_each_partition_once(before: set[str], after: set[str], kept: set[str], count: int, stay: bool) -> None:
    current = share(ConsistentHash(), workers=before, partitions=ALL, current={})
    listed = partitions(count)

    layout = share(ConsistentHash(), workers=after - kept or after, partitions=listed, current=current, kept=kept - after, stay=stay)

    assert sorted(partition.keys for given in layout.values() for partition in given) == [partition.keys for partition in listed]


@pytest.mark.parametrize(
    ("loads", "expected"),
    [([], 0.0), ([0, 0], 0.0), ([3, 3, 3], 0.0), ([4, 2], 1 / 3), ([1, 1, 4], 1.0), ([3, 3, 0], 1.0)],
)
def test_imbalance_ratio_is_the_largest_distance_from_the_mean(loads: list[int], expected: float) -> None:
    layout = {f"worker-{n}": partitions(load) for n, load in enumerate(loads)}

    assert imbalance_ratio(layout) == pytest.approx(expected)
