"""Cut: a live connection is closed (FIN) after a while, however busy it is and whether or not its reader reads.

The clock starts when the fault reaches the connection: at once for one that is open, at its opening for a later one. What the proxy still
held is thrown away, and the journal says how much.
"""

from __future__ import annotations

from typing import ClassVar

from floodmark.faults.wire.spec import Ending, How, WireFault
from floodmark.model import checks


class Cut(WireFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Close after `after_s`; 0 closes at once."""

    after_s: float

    SHORT: ClassVar[str] = "after_s"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.not_negative("fault 'cut': after_s", self.after_s)

    def ending(self) -> Ending:
        return Ending(after_s=self.after_s, how=How.CLOSE)
