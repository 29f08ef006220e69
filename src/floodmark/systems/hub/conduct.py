"""What a hub does about clients that break off and come back, and what it says of itself: the few places where a liar acts otherwise.

An honest hub does nothing out of the ordinary here: everyone may come back, a resume starts right behind its resume point, and figures are
told as they are. `misconduct.py` has the other kind. Not here: what is delivered to whom (`dispatch.py`, `liar.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from floodmark.systems.hub.metrics import Snapshot
from floodmark.systems.hub.subscription import Group

if TYPE_CHECKING:
    from floodmark.systems.hub.connection import Connection


class Conduct:
    """The honest kind."""

    def broke_off(self, connection: Connection) -> None:
        """A connection ended without a close frame; its subscriptions are still there, and so is it among the hub's connections."""

    def admits(self, open_count: int) -> bool:
        """Tell if one more client may connect while so many are there; limits are looked at before."""
        return True

    def resume_at(self, group: Group, cursor: int) -> int:
        """Choose where a resume starts; `cursor` is the position right behind its resume point."""
        return cursor

    def told(self, snapshot: Snapshot) -> Snapshot:
        """The figures as they are given away."""
        return snapshot

    def planted(self) -> dict[str, dict[str, float]]:
        """What was really done wrong, by lie."""
        return {}
