"""Limit: the connection closes after so many bytes, counted from when the fault reached it. Exactly those arrive, and then the close."""

from __future__ import annotations

from typing import ClassVar

from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import Chunk, End, Shaper
from floodmark.faults.wire.spec import LaneFault, ShaperFactory
from floodmark.model import checks


class Limit(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pass_bytes` in a direction are let through."""

    pass_bytes: int

    SHORT: ClassVar[str] = "pass_bytes"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("fault 'limit': pass_bytes", self.pass_bytes)

    def shapers(self) -> ShaperFactory:
        return lambda _direction, _rng, tally: _Gauge(self.pass_bytes, tally)


class _Gauge(Shaper):
    def __init__(self, pass_bytes: int, tally: Tally) -> None:
        self._left_bytes = pass_bytes
        self._tally = tally

    def touch(self, piece: Chunk) -> tuple[Chunk, End | None]:
        if len(piece) < self._left_bytes:
            self._left_bytes -= len(piece)
            return piece, None
        passed, self._left_bytes = piece[: self._left_bytes], 0
        self._tally.hit(len(piece) - len(passed))
        self._tally.write("limit reached", hits=1, size_bytes=len(piece) - len(passed))
        return passed, End.CLOSE
