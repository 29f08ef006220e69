"""Consistent hashing for partitions of unequal weight: the heaviest are dealt out, the others lie on the ring as long as they fit.

Heavier than `extreme` times the average: dealt in turns, in descending weight. One that has a worker already stays with it as long as that
has no more of them than its share, so a worker that comes takes its share and nothing else moves. The rest: on the ring, up to `overload`
times the average load of a worker; what does not fit stays where it is now if it fits there, else goes to whoever has least. Equal weights
are plain consistent hashing. A weight that is missing (0) counts as 1.
Limits: a partition heavier than a worker's fair share leaves its worker above the others, whoever that is.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

import numpy as np

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.strategy.base import NOBODY, Assignments, in_order
from floodmark.systems.fleet.strategy.consistent_hash import VIRTUAL_NODES, ConsistentHash, check_ring, grouped
from floodmark.systems.fleet.strategy.ring import Owners, RingCache, points_of

OVERLOAD, OVERLOAD_LEAST = 1.3, 1.15
EXTREME, EXTREME_LEAST = 2.0, 1.5


class Weighted:
    """The ring with a soft cap.

    Args:
        virtual_nodes, seed: of the ring.
        overload: times the average load from which on the ring gives a worker no more; at least 1.15.
        extreme: times the average weight above which a partition is dealt; at least 1.5.
    """

    def __init__(self, *, virtual_nodes: int = VIRTUAL_NODES, seed: int = 0, overload: float = OVERLOAD, extreme: float = EXTREME) -> None:
        check_ring(virtual_nodes, seed)
        for name, value, least in (("overload", overload, OVERLOAD_LEAST), ("extreme", extreme, EXTREME_LEAST)):
            if not least <= value < math.inf:
                raise UsageError(f"{name} must be at least {least:g}, got {value!r}")
        self._seed = seed
        self._overload = overload
        self._extreme = extreme
        self._rings = RingCache(virtual_nodes=virtual_nodes, seed=seed)
        self._plain = ConsistentHash(virtual_nodes=virtual_nodes, seed=seed)

    def assign(
        self, workers: Sequence[str], partitions: Sequence[Partition], current: Mapping[str, Sequence[Partition]] = NOBODY
    ) -> Assignments:
        """Give each partition to a worker, by weight."""
        if len({partition.weight or 1 for partition in partitions}) <= 1:
            return self._plain.assign(workers, partitions)
        names, ordered = in_order(workers, partitions)
        weights = np.array([partition.weight or 1 for partition in ordered], np.int64)
        heavy = weights > self._extreme * weights.mean()
        loads = np.zeros(len(names), np.int64)
        owners = np.empty(len(ordered), np.int64)
        dealt = np.flatnonzero(heavy)
        place = {name: index for index, name in enumerate(names)}
        had = {partition.keys: place[name] for name in names for partition in current.get(name, ())}
        owners[dealt] = _deal(dealt.tolist(), len(names), ordered, weights, had)
        np.add.at(loads, owners[dealt], weights[dealt])
        rest = np.flatnonzero(~heavy)
        light = [ordered[index] for index in rest.tolist()]
        points = points_of(light, self._seed)
        cap = self._overload * float(weights.sum()) / len(names)
        before = [had.get(partition.keys, -1) for partition in light]
        on_ring = self._rings.ring(names).owners(points)
        owners[rest] = _capped(on_ring, np.argsort(points, kind="stable"), weights[rest], before, loads, cap)
        return grouped(names, ordered, owners)


def _deal(
    dealt: Sequence[int], worker_count: int, ordered: Sequence[Partition], weights: Owners, had: Mapping[tuple[str, ...], int]
) -> list[int]:
    """Deal the heavy partitions: who has one keeps it within its share of them, the others go in turns, lightest first."""
    by_weight = sorted(dealt, key=lambda index: (-int(weights[index]), ordered[index].keys))
    # INVARIANT: so many workers may have one more than the others that all of them together have just enough.
    share, more = divmod(len(dealt), worker_count)
    counts, loads = [0] * worker_count, [0] * worker_count
    owner_of: dict[int, int] = {}
    for index in by_weight:
        owner = had.get(ordered[index].keys)
        if owner is None or counts[owner] > share or (counts[owner] == share and not more):
            continue
        more -= counts[owner] == share
        counts[owner] += 1
        loads[owner] += int(weights[index])
        owner_of[index] = owner
    fewest = [(count, load, index) for index, (count, load) in enumerate(zip(counts, loads, strict=True))]
    heapq.heapify(fewest)
    for index in by_weight:
        if index not in owner_of:
            count, load, owner = heapq.heappop(fewest)
            owner_of[index] = owner
            heapq.heappush(fewest, (count + 1, load + int(weights[index]), owner))
    return [owner_of[index] for index in dealt]


def _capped(owners: Owners, by_point: Owners, weights: Owners, before: Sequence[int], loads: Owners, cap: float) -> Owners:
    """Leave with their owner, in the order of the ring, those that fit under the cap; of the others those that fit where they are now.

    What fits nowhere so goes to whoever has least.

    Args:
        before: the worker that each has now, -1 for none.
        loads: what each worker has already.
    """
    left: list[int] = []
    have = loads.tolist()
    for index, owner, weight in zip(by_point.tolist(), owners[by_point].tolist(), weights[by_point].tolist(), strict=True):
        if have[owner] + weight <= cap:
            have[owner] += weight
        else:
            left.append(index)
    homeless: list[int] = []
    for index in left:
        owner, weight = before[index], int(weights[index])
        if owner >= 0 and have[owner] + weight <= cap:
            have[owner] += weight
            owners[index] = owner
        else:
            homeless.append(index)
    lightest = [(load, index) for index, load in enumerate(have)]
    heapq.heapify(lightest)
    for index in sorted(homeless, key=lambda index: -int(weights[index])):  # stable: the order of the ring among equals
        load, owner = heapq.heappop(lightest)
        owners[index] = owner
        heapq.heappush(lightest, (load + int(weights[index]), owner))
    return owners
