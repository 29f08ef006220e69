"""Slow close: bytes pass at once, the end of the stream (FIN) comes late. A reset is not held back."""

from __future__ import annotations

from typing import ClassVar

from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import End, Item, Shaper
from floodmark.faults.wire.spec import LaneFault, ShaperFactory
from floodmark.model import checks


class SlowClose(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The close arrives `delay_s` later than it was sent."""

    delay_s: float

    SHORT: ClassVar[str] = "delay_s"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.not_negative("fault 'slow_close': delay_s", self.delay_s)

    @property
    def inert(self) -> bool:
        return super().inert or self.delay_s == 0

    def shapers(self) -> ShaperFactory:
        return lambda _direction, _rng, tally: _LateEnd(self.delay_s, tally)


class _LateEnd(Shaper):
    def __init__(self, delay_s: float, tally: Tally) -> None:
        self._delay_s = delay_s
        self._tally = tally

    def admit(self, item: Item, now_s: float) -> float:
        if item not in (End.FIN, End.CLOSE):
            return now_s
        self._tally.hit(0)
        return now_s + self._delay_s
