"""The handover in two steps: what a worker gives up goes to the next one when the first says that it has let go. No I/O, times handed in.

A round first takes the moving partitions away, and gives them to nobody. When all the workers that lose some have told, in their
heartbeats, that they work by that round, or are gone, or `handover_limit_s` has passed, a second round gives them out. A worker that is not
there does not have to be waited for: one whose heartbeat lapses stops working by itself, unless `when_cut_off` lets it go on.
What a former leader had taken away and not yet given is unknown to its successor, which gives it out at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from floodmark.systems.fleet.leader.layout import Held, Keys, Layout

Applied = Callable[[str], tuple[int, int] | None]  # a worker's (epoch, version) in use; None: it is not there


class _Release(msgspec.Struct):
    """A partition that was taken from its worker, and by which round."""

    owner: str
    until_s: float = math.inf
    version: int = 0  # 0: not published yet


class Releases:
    """The partitions on their way, in one leader's term."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._releases: dict[Keys, _Release] = {}

    @property
    def pending(self) -> bool:
        """Whether something is on its way."""
        return bool(self._releases)

    @property
    def owners(self) -> frozenset[str]:
        """Whose word is waited for."""
        return frozenset(release.owner for release in self._releases.values())

    def hold_back(self, target: Layout, current: Held, now_s: float, *, epoch: int, applied: Applied) -> Layout:
        """Leave out of a round what another worker has not let go of yet."""
        owners = {partition.keys: worker for worker, given in current.items() for partition in given}
        releases: dict[Keys, _Release] = {}
        layout: Layout = {}
        for worker, given in target.items():
            layout[worker] = []
            for partition in given:
                release = self._releases.get(partition.keys)
                if release is None:
                    release = _Release(owner=owners.get(partition.keys, worker))
                if release.owner == worker or self._is_over(release, now_s, epoch, applied):
                    layout[worker].append(partition)
                else:
                    releases[partition.keys] = release
        self._releases = releases
        return layout

    def published(self, version: int, now_s: float) -> None:
        """The round is out: what it took away is free when its owner works by this version, or at the limit from now."""
        for release in self._releases.values():
            if not release.version:
                release.version, release.until_s = version, now_s + self._limit_s

    def ready_s(self, now_s: float, *, epoch: int, applied: Applied) -> float:
        """When the second step is due: now, or at the limit; infinity: nothing is on its way."""
        waiting = [release.until_s for release in self._releases.values() if not self._is_over(release, now_s, epoch, applied)]
        if waiting:
            return max(waiting)
        return now_s if self._releases else math.inf

    def _is_over(self, release: _Release, now_s: float, epoch: int, applied: Applied) -> bool:
        if release.until_s <= now_s:
            return True
        reached = applied(release.owner)
        return reached is None or (release.version > 0 and reached >= (epoch, release.version))
