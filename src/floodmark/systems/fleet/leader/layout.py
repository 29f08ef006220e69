"""Who shall have what in a round: the strategy's answer, and what must not be touched. Pure.

What a worker that is missing but not lost has (`kept`) stays its own, and a round may leave everybody's partitions where they are and only
place those that nobody has (`stay`). A strategy that leaves a partition out, or gives one away twice, is found out here, before anything
is published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from floodmark.systems.fleet.errors import FleetError
from floodmark.systems.fleet.partition import Partition

if TYPE_CHECKING:  # numpy comes with it
    from floodmark.systems.fleet.strategy.base import Strategy

Keys = tuple[str, ...]
Held = Mapping[str, Sequence[Partition]]
Layout = dict[str, list[Partition]]


class StrategyError(FleetError):
    """A strategy that did not give every partition to exactly one of the workers."""

    def __init__(self, strategy: str, partition_count: int, given_count: int, distinct_count: int) -> None:
        super().__init__(strategy, partition_count, given_count, distinct_count)
        self.strategy, self.partition_count = strategy, partition_count
        self.given_count, self.distinct_count = given_count, distinct_count

    def __str__(self) -> str:
        return (
            f"the strategy {self.strategy} was given {self.partition_count} partitions and gave away {self.given_count}, of them "
            f"{self.distinct_count} different ones of the list; nothing was published"
        )


def share(
    strategy: Strategy,
    *,
    workers: AbstractSet[str],
    partitions: Sequence[Partition],
    current: Held,
    kept: AbstractSet[str] = frozenset(),
    stay: bool = False,
) -> Layout:
    """Lay out a round: every partition of the list has one worker, each of `workers` and `kept` has a list, sorted by keys.

    Raises: StrategyError, and what the strategy raises.
    """
    free = {partition.keys: partition for partition in partitions}
    untouched = kept | workers if stay else kept
    layout: Layout = {worker: [] for worker in sorted(kept | workers)}
    for worker in sorted(untouched):
        for partition in current.get(worker, ()):
            listed = free.pop(partition.keys, None)  # as the list has it now; gone from the list: gone from the worker
            if listed is not None:
                layout[worker].append(listed)
    if free or not stay:
        rest = sorted(free.values(), key=_keys)
        before = {} if stay else {worker: current[worker] for worker in sorted(workers) if worker in current}
        answer = strategy.assign(sorted(workers), rest, before)
        _check(strategy, workers, free.keys(), answer)
        for worker, given in answer.items():
            layout[worker].extend(given)
    for given in layout.values():
        given.sort(key=_keys)
    return layout


def _check(strategy: Strategy, workers: AbstractSet[str], keys: AbstractSet[Keys], answer: Held) -> None:
    given = [partition.keys for worker in answer if worker in workers for partition in answer[worker]]
    distinct_count = len(keys & set(given))
    if not len(given) == distinct_count == len(keys) or not answer.keys() <= workers:
        raise StrategyError(type(strategy).__name__, len(keys), sum(map(len, answer.values())), distinct_count)


def _keys(partition: Partition) -> Keys:
    return partition.keys


def imbalance_ratio(layout: Held) -> float:
    """How far the heaviest or the lightest worker is from the mean load, as part of the mean; 0 with no load.

    >>> three, one = [Partition(keys=(name,)) for name in "abc"], [Partition(keys=("d",))]
    >>> imbalance_ratio({"worker-0": three, "worker-1": one}), imbalance_ratio({})
    (0.5, 0.0)
    """
    loads = [sum(partition.weight or 1 for partition in given) for given in layout.values()]
    mean = sum(loads) / len(loads) if loads else 0.0
    return max(max(loads) - mean, mean - min(loads)) / mean if mean else 0.0


def covered(layout: Held) -> set[Keys]:
    """The partitions that somebody has."""
    return {partition.keys for given in layout.values() for partition in given}
