"""Who leads: one key, created by who comes first, renewed by revision, gone when it is not renewed in time.

A lease is held by the leader's own clock: from the moment a renewal was asked for, minus a margin for clocks that run unevenly, so that
the old leader knows that it leads no more before the store lets the key go. A late answer cannot prolong it. The epoch is the revision with
which the key was created; revisions rise over expiry and re-creation. Should a bucket have been lost with its revisions, the epoch is
lifted above all that assignments and heartbeats still tell of. It stands in the key before it is used.
Followers watch the key and time its expiry themselves: a leader that leaves is followed at once, one that died when its time is over.
Not here: what a leader does (leader/).
"""

from __future__ import annotations

import asyncio
from typing import Final

MARGIN_RATIO: Final = 0.05  # of a lease that its holder does not use: two clocks may run apart by so much


class Lease:
    """The right to lead, as its holder sees it."""

    def __init__(self, *, epoch: int, limit_s: float, renewed_s: float) -> None:
        self.epoch = epoch
        self.lost = asyncio.Event()
        self._limit_s = limit_s * (1 - MARGIN_RATIO)
        self._renewed_s = renewed_s

    def held(self) -> bool:
        """Whether it was renewed in time, by our own clock."""
        return not self.lost.is_set() and asyncio.get_running_loop().time() < self.ends_s

    @property
    def ends_s(self) -> float:
        """When it ends unless it is renewed; time of the event loop."""
        return self._renewed_s + self._limit_s

    def renewed(self, asked_s: float) -> None:
        """It was renewed by an operation that began at `asked_s`."""
        self._renewed_s = asked_s
