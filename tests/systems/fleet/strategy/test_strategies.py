"""What every strategy promises, by name: coverage, no duplicate, determinism in any order and any process, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.partition import Partition, PartitionError
from floodmark.systems.fleet.strategy import STRATEGIES, DuplicateWorkerError, NoWorkersError

NAMES = sorted(STRATEGIES)
workers = st.lists(st.integers(0, 50).map("worker-{}".format), min_size=1, max_size=12, unique=True)
keys = st.tuples(st.sampled_from(["eu", "us", "ap"]), st.integers(0, 99).map(str))
weighed = st.lists(
    st.builds(Partition, keys=keys, weight=st.sampled_from([0, 1, 1, 1, 2, 5, 100])), max_size=80, unique_by=lambda p: p.keys
)


@pytest.mark.parametrize("name", NAMES)
@given(workers=workers, partitions=weighed)
def test_strategy_with_anything_gives_each_partition_to_exactly_one_worker(
    name: str, workers: list[str], partitions: list[Partition]
) -> None:
    assigned = STRATEGIES[name]().assign(workers, partitions)

    assert list(assigned) == sorted(workers)
    assert sorted(partition for theirs in assigned.values() for partition in theirs) == sorted(partitions)


@pytest.mark.parametrize("name", NAMES)
@given(workers=workers, partitions=weighed, random=st.randoms(use_true_random=False))
def test_strategy_with_its_input_in_another_order_answers_the_same(
    name: str, workers: list[str], partitions: list[Partition], random: object
) -> None:
    before = STRATEGIES[name]().assign(workers, partitions)
    shuffled_workers, shuffled = list(workers), list(partitions)
    random.shuffle(shuffled_workers)  # type: ignore[attr-defined]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    again = STRATEGIES[name]().assign(shuffled_workers, shuffled)

    assert again == before


@pytest.mark.parametrize("name", NAMES)
def test_strategy_in_another_process_with_another_hash_seed_answers_the_same(name: str) -> None:
    program = f"""
import json
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy import STRATEGIES
partitions = [Partition(keys=("eu", str(number)), weight=number % 5) for number in range(200)]
assigned = STRATEGIES[{name!r}]().assign([f"worker-{{number}}" for number in range(7)], partitions)
print(json.dumps({{worker: [partition.id for partition in theirs] for worker, theirs in assigned.items()}}))
"""
    said = [
        subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    ]

    assert said[0] == said[1]
    assert sum(len(theirs) for theirs in json.loads(said[0]).values()) == 200


@pytest.mark.parametrize("name", NAMES)
def test_strategy_without_partitions_gives_everybody_an_empty_list(name: str) -> None:
    assert STRATEGIES[name]().assign(["b", "a"], []) == {"a": [], "b": []}


@pytest.mark.parametrize("name", NAMES)
def test_strategy_without_workers_says_so(name: str) -> None:
    with pytest.raises(NoWorkersError, match="3 partitions"):
        STRATEGIES[name]().assign([], [Partition(keys=(key,)) for key in "abc"])


@pytest.mark.parametrize("name", NAMES)
def test_strategy_with_a_worker_or_a_partition_twice_refuses(name: str) -> None:
    strategy = STRATEGIES[name]()

    with pytest.raises(DuplicateWorkerError, match="worker-1"):
        strategy.assign(["worker-1", "worker-2", "worker-1"], [])
    with pytest.raises(PartitionError, match="listed twice"):
        strategy.assign(["worker-1"], [Partition(keys=("a",)), Partition(keys=("a",), weight=2)])


@pytest.mark.parametrize("name", NAMES)
def test_strategy_with_one_worker_gives_it_everything(name: str) -> None:
    partitions = [Partition(keys=(str(number),), weight=number) for number in range(30)]

    assert sorted(STRATEGIES[name]().assign(["only"], partitions)["only"]) == sorted(partitions)
