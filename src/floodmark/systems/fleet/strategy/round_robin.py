"""The i-th partition to the i-th worker, round and round: counts differ by one at most, and nearly everything moves when a worker comes.

For fleets whose workers come and go seldom, or whose partitions carry no state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy.base import NOBODY, Assignments, in_order


class RoundRobin:
    """Deals the partitions, sorted by their keys, to the workers, sorted by their names."""

    def assign(
        self, workers: Sequence[str], partitions: Sequence[Partition], current: Mapping[str, Sequence[Partition]] = NOBODY
    ) -> Assignments:
        """Give each worker every n-th partition; `current` does not matter."""
        names, ordered = in_order(workers, partitions)
        return {name: ordered[index :: len(names)] for index, name in enumerate(names)}
