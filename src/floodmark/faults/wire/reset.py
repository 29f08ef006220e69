"""Reset: both ends get a TCP reset (RST), at once or after a while. What had not arrived never will.

The socket is closed with SO_LINGER 0, so the kernel throws away its send buffer too. Clocked like `cut`.
"""

from __future__ import annotations

from typing import ClassVar

from floodmark.faults.wire.spec import Ending, How, WireFault
from floodmark.model import checks


class Reset(WireFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reset after `after_s`; 0 resets at once."""

    after_s: float = 0.0

    SHORT: ClassVar[str] = "after_s"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.not_negative("fault 'reset': after_s", self.after_s)

    def ending(self) -> Ending:
        return Ending(after_s=self.after_s, how=How.RESET)
