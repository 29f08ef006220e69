"""Consistent hashing: where a partition lies does not depend on who else is there, so few move when a worker comes or goes.

Stateless: the same workers have the same partitions, whatever was before; one that leaves and comes back under its name finds its own
again. With `bound`, no worker has more than that times the average (bounded loads); what does not fit goes to the next one.
Weights do not count here; see `weighted`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy.base import NOBODY, Assignments, in_order
from floodmark.systems.fleet.strategy.ring import Owners, RingCache, points_of

VIRTUAL_NODES = 150
VIRTUAL_NODES_LEAST, VIRTUAL_NODES_MOST = 100, 300
BOUND = 1.25


def check_ring(virtual_nodes: int, seed: int) -> None:
    """Raise UsageError unless a ring can be made of them."""
    if not VIRTUAL_NODES_LEAST <= virtual_nodes <= VIRTUAL_NODES_MOST:
        raise UsageError(f"virtual_nodes must be {VIRTUAL_NODES_LEAST} to {VIRTUAL_NODES_MOST}, got {virtual_nodes}")
    if not 0 <= seed < 2**64:
        raise UsageError(f"seed must be 0 to 2^64 - 1, got {seed}")


class ConsistentHash:
    """The ring.

    Args:
        virtual_nodes: points of each worker on the ring; more are more even and slower.
        seed: another one is another arrangement.
        bound: times the average that a worker may have, at least 1.05; 0: as much as falls to it.
    """

    def __init__(self, *, virtual_nodes: int = VIRTUAL_NODES, seed: int = 0, bound: float = BOUND) -> None:
        check_ring(virtual_nodes, seed)
        if bound and not 1.05 <= bound < math.inf:
            raise UsageError(f"bound must be 0 (none) or at least 1.05 times the average, got {bound!r}")
        self._seed = seed
        self._bound = bound
        self._rings = RingCache(virtual_nodes=virtual_nodes, seed=seed)

    def assign(
        self, workers: Sequence[str], partitions: Sequence[Partition], current: Mapping[str, Sequence[Partition]] = NOBODY
    ) -> Assignments:
        """Give each partition to the next worker clockwise; `current` does not matter."""
        names, ordered = in_order(workers, partitions)
        ring = self._rings.ring(names)
        points = points_of(ordered, self._seed)
        most_count = math.ceil(self._bound * len(ordered) / len(names)) if self._bound else len(ordered)
        owners = ring.owners_bounded(points, most_count)
        return grouped(names, ordered, owners)


def grouped(names: Sequence[str], ordered: Sequence[Partition], owners: Owners) -> Assignments:
    """Make the lists from the index of each partition's worker; their order within a list stays."""
    lists: list[list[Partition]] = [[] for _ in names]
    for partition, owner in zip(ordered, owners.tolist(), strict=True):
        lists[owner].append(partition)
    return dict(zip(names, lists, strict=True))
