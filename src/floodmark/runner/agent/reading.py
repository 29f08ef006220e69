"""For how long a client of ours did not read its socket: what came late meanwhile came late by our doing. Pure; times are given."""

from __future__ import annotations


class Reading:
    """Whether one client reads now, and all the time that it did not."""

    __slots__ = ("_past_ns", "_since_ns", "has_paused")

    def __init__(self) -> None:
        self.has_paused = False
        """Whether it ever stopped: while not, nobody needs to ask for how long."""
        self._since_ns = 0
        self._past_ns = 0

    @property
    def is_paused(self) -> bool:
        """Whether it does not read now."""
        return bool(self._since_ns)

    def pause(self, now_ns: int) -> None:
        """It stops reading; nothing new for one that had."""
        self.has_paused = True
        self._since_ns = self._since_ns or now_ns

    def resume(self, now_ns: int) -> None:
        """It reads again; nothing new for one that does."""
        if self._since_ns:
            self._past_ns += now_ns - self._since_ns
            self._since_ns = 0

    def unread_ns(self, now_ns: int) -> int:
        """Give the time, in all up to now, in which it did not read."""
        return self._past_ns + (max(0, now_ns - self._since_ns) if self._since_ns else 0)
