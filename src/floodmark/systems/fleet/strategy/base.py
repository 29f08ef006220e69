"""What a strategy is: a pure function from workers and partitions to who does what.

Contract: every partition is given to exactly one worker, every worker has a list (an empty one, perhaps), and the same input gives the same
output in any order of its parts, in any process, on any machine. No workers is an error; no partitions are empty lists.
Not here: when it is asked, and what becomes of the answer (leader/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.partition import Partition, unique

Assignments = dict[str, list[Partition]]
NOBODY: Mapping[str, Sequence[Partition]] = MappingProxyType({})


class NoWorkersError(UsageError):
    """There is nobody to give the partitions to."""

    def __init__(self, partition_count: int) -> None:
        super().__init__(partition_count)
        self.partition_count = partition_count

    def __str__(self) -> str:
        return f"no worker is there to take {self.partition_count} partitions"


class DuplicateWorkerError(UsageError):
    """The same worker is listed twice."""

    def __init__(self, worker: str) -> None:
        super().__init__(worker)
        self.worker = worker

    def __str__(self) -> str:
        return f"the worker {self.worker} is listed twice"


class Strategy(Protocol):
    """Decides who gets which partition."""

    def assign(
        self, workers: Sequence[str], partitions: Sequence[Partition], current: Mapping[str, Sequence[Partition]] = NOBODY
    ) -> Assignments:
        """Give every partition to one worker.

        Args:
            workers: names, each once, in any order.
            partitions: each once, in any order.
            current: who has which now; a strategy may keep things where they are by it, and need not.

        Returns: the partitions of each worker, workers and partitions sorted by name.
        Raises: NoWorkersError, DuplicateWorkerError, PartitionError.
        """
        ...


def in_order(workers: Sequence[str], partitions: Sequence[Partition]) -> tuple[list[str], list[Partition]]:
    """Check and sort the input of a strategy, so that its order cannot matter.

    Raises: NoWorkersError, DuplicateWorkerError, PartitionError.
    """
    if not workers:
        raise NoWorkersError(len(partitions))
    names = sorted(workers)
    for first, second in pairwise(names):
        if first == second:
            raise DuplicateWorkerError(first)
    return names, sorted(unique(partitions), key=_keys)


def _keys(partition: Partition) -> tuple[str, ...]:
    return partition.keys
