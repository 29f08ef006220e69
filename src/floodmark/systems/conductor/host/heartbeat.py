"""Which heartbeats a surface has answered, and how quickly it does.

A surface that has left MISSED_MAX of them in a row without an answer is dead; any answer shows that it lives. The time of a round trip is
smoothed, each new one counting for RTT_SHARE, so that one late answer is no trend. Pure: the time is handed in. Memory: the last ping's.
"""

from __future__ import annotations

from typing import Final

from floodmark.systems.conductor.vocabulary import Ping, Pong

MISSED_MAX: Final = 3
RTT_SHARE: Final = 0.2


class Heartbeat:
    """The heartbeats of one surface.

    >>> beat = Heartbeat()
    >>> beat.ping(10.0), beat.pong(Pong(seq=1), 10.5), beat.ping(20.0), beat.pong(Pong(seq=2), 21.0), beat.rtt_s
    (Ping(seq=1), None, Ping(seq=2), None, 0.6)
    """

    __slots__ = ("_missed_count", "_number", "_pinged_s", "rtt_s")

    def __init__(self) -> None:
        self._number = 0
        self._pinged_s: float | None = None  # None: the last ping was answered
        self._missed_count = 0
        self.rtt_s = 0.0  # smoothed; 0: none was answered yet

    @property
    def dead(self) -> bool:
        """Whether no answer can be hoped for any more."""
        return self._missed_count >= MISSED_MAX

    def ping(self, now_s: float) -> Ping:
        """Give the next one to send; it counts as missed until an answer comes."""
        self._missed_count += 1
        self._number += 1
        self._pinged_s = now_s
        return Ping(seq=self._number)

    def pong(self, answer: Pong, now_s: float) -> None:
        """Take an answer; only one to the last ping tells a time."""
        self._missed_count = 0
        if answer.seq != self._number or self._pinged_s is None:
            return
        taken_s = now_s - self._pinged_s
        self.rtt_s = self.rtt_s + RTT_SHARE * (taken_s - self.rtt_s) if self.rtt_s else taken_s
        self._pinged_s = None
