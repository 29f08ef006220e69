"""The ring of consistent hashing: each worker at many points of it, each partition with the first worker clockwise from its own point.

A point is a 64-bit hash (XXH64) of a name's parts, chained: the hash of one part is the seed of the next, so ("a", "b") and ("ab",) lie
apart. It has no part of this process or machine in it. Bounded loads (Mirrokni, Thorup, Zadimoghaddam 2018): a worker that has all it
may have is passed over.
Limits: two points that hash alike lie in the order of the workers' names; among 2^64 points that never decides more than one partition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from floodmark.systems.fleet.partition import Partition

Points = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.int64]


def point_of(parts: Sequence[str], seed: int) -> int:
    """Hash the parts of one name.

    >>> point_of(("a", "b"), 0) == point_of(("ab",), 0)
    False
    """
    for part in parts:
        seed = xxhash.xxh64_intdigest(part.encode(), seed)
    return seed


def points_of(partitions: Sequence[Partition], seed: int) -> Points:
    """Hash the keys of every partition, in their order."""
    one: Callable[[bytes, int], int] = xxhash.xxh64_intdigest
    points = np.empty(len(partitions), np.uint64)
    for index, partition in enumerate(partitions):  # HOT: 100,000 of them in a tenth of a second
        point = seed
        for key in partition.keys:
            point = one(key.encode(), point)
        points[index] = point
    return points


class Ring:
    """The points of one set of workers; made once for it, asked often.

    Args:
        workers: sorted names; the answers are indices into them.
        virtual_nodes: how many points each worker has.
    """

    def __init__(self, workers: Sequence[str], *, virtual_nodes: int, seed: int) -> None:
        self.worker_count = len(workers)
        places = [str(number).encode() for number in range(virtual_nodes)]
        one: Callable[[bytes, int], int] = xxhash.xxh64_intdigest
        starts = [point_of((worker,), seed) for worker in workers]
        points = np.array([one(place, start) for start in starts for place in places], np.uint64)
        owners = np.repeat(np.arange(self.worker_count), virtual_nodes)
        order = np.argsort(points, kind="stable")
        self._points: Points = points[order]
        self._owners: Owners = owners[order]

    def owners(self, points: Points) -> Owners:
        """Tell the worker of each point, whatever it has already."""
        return self._owners[self._places(points)]

    def owners_bounded(self, points: Points, most_count: int) -> Owners:
        """Tell the worker of each point, none of which takes more than `most_count`.

        Who must go on from a full worker is who lies last on the whole ring; it goes to the next worker clockwise that has room.
        """
        places = self._places(points)
        owners = self._owners[places]
        counts = np.bincount(owners, minlength=self.worker_count)
        over = np.flatnonzero(counts > most_count)
        if not len(over):
            return owners
        order = np.argsort(points, kind="stable")
        ranked = order[np.argsort(owners[order], kind="stable")]  # by owner, and by point within each
        starts = np.searchsorted(owners[ranked], over)
        surplus = np.concatenate([ranked[start + most_count : start + counts[worker]] for start, worker in zip(starts, over, strict=True)])
        counts[over] = most_count
        around = self._owners.tolist()
        room = (most_count - counts).tolist()
        for index in surplus[np.argsort(points[surplus], kind="stable")].tolist():
            place = int(places[index])
            while not room[around[place]]:
                place = (place + 1) % len(around)
            room[around[place]] -= 1
            owners[index] = around[place]
        return owners

    def _places(self, points: Points) -> Owners:
        return np.searchsorted(self._points, points) % len(self._points)


class RingCache:
    """The last ring that was asked for: the workers change seldom, their partitions are dealt again and again."""

    def __init__(self, *, virtual_nodes: int, seed: int) -> None:
        self._virtual_nodes = virtual_nodes
        self._seed = seed
        self._workers: tuple[str, ...] = ()
        self._ring: Ring | None = None

    def ring(self, workers: Sequence[str]) -> Ring:
        """Give the ring of these workers, sorted."""
        if self._ring is None or self._workers != tuple(workers):
            self._ring = Ring(workers, virtual_nodes=self._virtual_nodes, seed=self._seed)
            self._workers = tuple(workers)
        return self._ring
