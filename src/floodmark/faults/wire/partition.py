"""Partition: nothing passes, in one direction or both, and nothing is lost: when the fault is removed all of it arrives in order.

Connections stay, as they do while a cable is out for less than TCP's patience: ends and resets wait too. Up to 1 MiB per connection and
direction is taken from the sender and held, besides what the kernels' socket buffers take; then the sender has to wait.
A connection that is opened meanwhile is accepted (the kernel does that) and then hears nothing.
"""

from __future__ import annotations

import math

from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import MIB, End, Item, Shaper
from floodmark.faults.wire.spec import LaneFault, ShaperFactory


class Partition(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`direction` says which way nothing passes."""

    def shapers(self) -> ShaperFactory:
        return lambda _direction, _rng, tally: _Wall(tally)


class _Wall(Shaper):
    capacity_bytes = MIB

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def admit(self, item: Item, now_s: float) -> float:
        self._tally.hit(0 if isinstance(item, End) else len(item))
        return math.inf
