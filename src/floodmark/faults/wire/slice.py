"""Slice: what was written as one piece arrives as many small ones, with a pause between them.

Finds readers that take one read for one message. Each piece is one send of its own; without a pause the receiver's kernel may still put
neighbours together before they are read, so set `gap_s` when every piece is to be read alone.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import Shaper
from floodmark.faults.wire.spec import LaneFault, ShaperFactory
from floodmark.model import checks


class Slice(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pieces of `piece_bytes`, give or take `spread_bytes` (drawn by the seed), `gap_s` apart."""

    piece_bytes: int
    gap_s: float = 0.0
    spread_bytes: int = 0

    SHORT: ClassVar[str] = "piece_bytes"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("fault 'slice': piece_bytes", self.piece_bytes)
        checks.not_negative("fault 'slice': gap_s", self.gap_s)
        if self.spread_bytes != 0:
            checks.whole("fault 'slice': spread_bytes", self.spread_bytes)
        checks.require(
            self.spread_bytes < self.piece_bytes,
            f"fault 'slice': spread_bytes must be below piece_bytes ({self.piece_bytes}), got {self.spread_bytes}",
        )

    def shapers(self) -> ShaperFactory:
        return lambda _direction, rng, tally: _Slicer(self, rng, tally)


class _Slicer(Shaper):
    def __init__(self, fault: Slice, rng: np.random.Generator, tally: Tally) -> None:
        self._fault = fault
        self._rng = rng
        self._tally = tally
        self._next_s = 0.0

    def cut(self, size_bytes: int) -> int:
        piece_bytes = self._fault.piece_bytes
        if self._fault.spread_bytes:
            piece_bytes += int(self._rng.integers(-self._fault.spread_bytes, self._fault.spread_bytes + 1))
        return min(size_bytes, piece_bytes)

    def book(self, size_bytes: int, from_s: float) -> float:
        leaves_s = max(from_s, self._next_s)
        if size_bytes:
            self._next_s = leaves_s + self._fault.gap_s
            self._tally.hit(size_bytes)
        return leaves_s
