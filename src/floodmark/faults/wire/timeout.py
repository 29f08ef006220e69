"""Timeout: a black hole. Whatever is sent is taken and thrown away; after a while the connection closes, or never.

The sender sees its bytes acknowledged: that is what a crashed peer behind a load balancer looks like. What was thrown away stays lost when
the fault is removed, and the journal says how much, from which offset. The end of a stream is not lost: it is held until then.
"""

from __future__ import annotations

import math
from typing import ClassVar

from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import Chunk, End, Item, Shaper
from floodmark.faults.wire.spec import Ending, How, LaneFault, ShaperFactory
from floodmark.model import checks


class Timeout(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The connection closes after `after_s`; 0 keeps it open as long as the fault lasts."""

    after_s: float = 0.0

    SHORT: ClassVar[str] = "after_s"
    DAMAGES: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.not_negative("fault 'timeout': after_s", self.after_s)

    def shapers(self) -> ShaperFactory:
        return lambda _direction, _rng, tally: _BlackHole(tally)

    def ending(self) -> Ending | None:
        return Ending(after_s=self.after_s, how=How.CLOSE) if self.after_s else None


class _BlackHole(Shaper):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def admit(self, item: Item, now_s: float) -> float:
        return math.inf if isinstance(item, End) else now_s

    def touch(self, piece: Chunk) -> tuple[Chunk, End | None]:
        self._tally.hit(len(piece))
        return b"", None
