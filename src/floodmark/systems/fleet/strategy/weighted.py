"""Consistent hashing for partitions of unequal weight: the heaviest are dealt out, the others lie on the ring as long as they fit.

Heavier than `extreme` times the average: dealt in descending weight, each to the worker with the least of such weight so far, which is
round robin when they weigh the same. One that has a worker already stays with it as long as that has no more of them than its share, so a
worker that comes takes its share and nothing else moves. The rest: on the ring, up to `overload` times the average load of a worker; what
does not fit goes to whoever has least. Equal weights are plain consistent hashing. A weight that is missing (0) counts as 1.
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
        owners[dealt] = _deal(dealt.tolist(), names, ordered, weights, current)
        np.add.at(loads, owners[dealt], weights[dealt])
        rest = np.flatnonzero(~heavy)
        points = points_of([ordered[index] for index in rest.tolist()], self._seed)
        cap = self._overload * float(weights.sum()) / len(names)
        owners[rest] = _capped(self._rings.ring(names).owners(points), np.argsort(points, kind="stable"), weights[rest], loads, cap)
        return grouped(names, ordered, owners)


def _deal(
    dealt: Sequence[int],
    names: Sequence[str],
    ordered: Sequence[Partition],
    weights: Owners,
    current: Mapping[str, Sequence[Partition]],
) -> list[int]:
    """Deal the heavy partitions: who has one keeps it within its share of them, the others go to whoever has least of their weight."""
    place = {name: index for index, name in enumerate(names)}
    had = {partition.keys: place[name] for name in names for partition in current.get(name, ())}
    by_weight = sorted(dealt, key=lambda index: (-int(weights[index]), ordered[index].keys))
    # INVARIANT: so many workers may have one more than the others that all of them together have just enough.
    share, more = divmod(len(dealt), len(names))
    counts, loads = [0] * len(names), [0] * len(names)
    owner_of: dict[int, int] = {}
    for index in by_weight:
        owner = had.get(ordered[index].keys)
        if owner is None or counts[owner] > share or (counts[owner] == share and not more):
            continue
        more -= counts[owner] == share
        counts[owner] += 1
        loads[owner] += int(weights[index])
        owner_of[index] = owner
    lightest = [(load, index) for index, load in enumerate(loads)]
    heapq.heapify(lightest)
    for index in by_weight:
        if index not in owner_of:
            load, owner = heapq.heappop(lightest)
            owner_of[index] = owner
            heapq.heappush(lightest, (load + int(weights[index]), owner))
    return [owner_of[index] for index in dealt]


def _capped(owners: Owners, by_point: Owners, weights: Owners, loads: Owners, cap: float) -> Owners:
    """Leave with their owner, in the order of the ring, those that fit under the cap, and give the others to whoever has least.

    Args: `loads` is what each worker has already; it is changed.
    """
    left: list[int] = []
    have = loads.tolist()
    for index, owner, weight in zip(by_point.tolist(), owners[by_point].tolist(), weights[by_point].tolist(), strict=True):
        if have[owner] + weight <= cap:
            have[owner] += weight
        else:
            left.append(index)
    lightest = [(load, index) for index, load in enumerate(have)]
    heapq.heapify(lightest)
    for index in sorted(left, key=lambda index: -int(weights[index])):  # stable: the order of the ring among equals
        load, owner = heapq.heappop(lightest)
        owners[index] = owner
        heapq.heappush(lightest, (load + int(weights[index]), owner))
    return owners
