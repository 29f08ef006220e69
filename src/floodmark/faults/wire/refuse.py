"""Refuse: new connections are turned away; those that are open stay.

`reset` and `close` accept (the kernel has done so before anybody is asked) and end the connection at once with RST or FIN, for any share.
`refused` stops listening, so that connect() itself fails with ECONNREFUSED; that is for all or none. The port stays ours meanwhile (bound,
and not listened on), so that it is there when the fault is removed.
"""

from __future__ import annotations

from typing import ClassVar

from floodmark.faults.wire.spec import Door, WireFault
from floodmark.model import checks

WAYS = ("reset", "close", "refused")


class Refuse(WireFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`how` a newcomer is turned away; with `first_count` only the first so many of the chosen are, as a client's third try then finds."""

    how: Door = "reset"
    first_count: int = 0

    SHORT: ClassVar[str] = "how"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require(self.how in WAYS, f"fault 'refuse': how must be one of {', '.join(WAYS)}, got {self.how!r}")
        checks.require(
            self.how != "refused" or self.share in (0, 1), "fault 'refuse': a port listens or not; with a share use how=reset or how=close"
        )

        if self.first_count != 0:
            checks.whole("fault 'refuse': first_count", self.first_count)
            checks.require(
                self.how != "refused",
                "fault 'refuse': a port that does not listen cannot count; with first_count use how=reset or how=close",
            )

    def door(self) -> Door:
        return self.how

    def spent(self, hits: int) -> bool:
        return 0 < self.first_count <= hits
