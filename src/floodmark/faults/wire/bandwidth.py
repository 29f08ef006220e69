"""Bandwidth: so many bytes a second and no more, for each connection and direction, or (`shared`) for all connections together.

A piece leaves when its last byte would have been sent. Pieces are what passes in 5 ms, at most 64 KiB, so that the stream is even. Nothing
is saved up while a lane is idle or its receiver slow. 50 ms of the stream are held, but no less than 256 KiB and no more than 4 MiB; then
the sender waits.
"""

from __future__ import annotations

from typing import ClassVar

from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import KIB, MIB, Shaper
from floodmark.faults.wire.spec import Direction, LaneFault, ShaperFactory
from floodmark.model import checks

_PIECE_S = 0.005
_PIECE_BYTES_MAX = 64 * KIB
_HOLD_S = 0.05
_HOLD_BYTES_MAX = 4 * MIB


class Bandwidth(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`bytes_per_s` for each connection and direction; with `shared`, for all connections of a direction together."""

    bytes_per_s: float
    shared: bool = False

    SHORT: ClassVar[str] = "bytes_per_s"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("fault 'bandwidth': bytes_per_s", self.bytes_per_s)

    def shapers(self) -> ShaperFactory:
        lines = {direction: _Line(self.bytes_per_s) for direction in Direction}

        def make(direction: Direction, _rng: object, tally: Tally) -> Shaper:
            return _Throttle(lines[direction] if self.shared else _Line(self.bytes_per_s), tally)

        return make


class _Line:
    """A line that sends one byte after the other at a fixed speed."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_s = 0.0

    def send(self, size_bytes: int, from_s: float) -> float:
        """Give when the last byte is through."""
        self._free_s = max(self._free_s, from_s) + size_bytes / self.bytes_per_s
        return self._free_s


class _Throttle(Shaper):
    def __init__(self, line: _Line, tally: Tally) -> None:
        self.capacity_bytes = min(_HOLD_BYTES_MAX, max(256 * KIB, int(line.bytes_per_s * _HOLD_S)))
        self._line = line
        self._tally = tally
        self._piece_bytes = max(1, min(_PIECE_BYTES_MAX, int(line.bytes_per_s * _PIECE_S)))

    def cut(self, size_bytes: int) -> int:
        return min(size_bytes, self._piece_bytes)

    def book(self, size_bytes: int, from_s: float) -> float:
        if size_bytes == 0:
            return from_s
        self._tally.hit(size_bytes)
        return self._line.send(size_bytes, from_s)
