"""The ladder that a stream climbs as its memory fills: degrade at 80 % of its limit, pause at 90 %, kill at 95 %.

Memory is counted, not sampled from the process: the frames and records a stream holds, and its groups. Pausing comes before killing even if
one sample passes both steps: whoever reads the stream gets one sampling period to make room. A pause ends when memory has
fallen below the step where the stream would run degraded, so that it does not go on and off. Pure: no clock, no tasks.
"""

from __future__ import annotations

import enum

from floodmark.systems.pipeline.settings import Ladder


class Step(enum.IntEnum):
    """Where on the ladder a stream stands."""

    NORMAL = 0
    DEGRADED = 1
    PAUSED = 2
    KILLED = 3


class MemoryLadder:
    """The step of one stream, from what it holds.

    >>> ladder = MemoryLadder(1000, Ladder())
    >>> [ladder.observe(used, timed=True).name for used in (100, 850, 960, 960)]
    ['NORMAL', 'DEGRADED', 'PAUSED', 'KILLED']
    """

    __slots__ = ("_ladder", "limit_bytes", "step", "used_bytes", "used_bytes_max")

    def __init__(self, limit_bytes: int, ladder: Ladder) -> None:
        self.limit_bytes = limit_bytes
        self._ladder = ladder
        self.step = Step.NORMAL
        self.used_bytes = 0
        self.used_bytes_max = 0

    def threshold_bytes(self, step: Step) -> int:
        """Where a step begins, for messages; the limit itself for a step that is left out."""
        ratio = (None, self._ladder.degrade_ratio, self._ladder.pause_ratio, self._ladder.kill_ratio)[step]
        return self.limit_bytes if ratio is None else int(self.limit_bytes * ratio)

    def observe(self, used_bytes: int, *, timed: bool) -> Step:
        """Take a sample and say on which step it leaves the stream.

        Args: timed: whether this is a sample of the regular clock; only such a one can kill.
        """
        self.used_bytes = used_bytes
        self.used_bytes_max = max(self.used_bytes_max, used_bytes)
        if self.step is not Step.KILLED:
            self.step = self._next(used_bytes, timed)
        return self.step

    def _next(self, used_bytes: int, timed: bool) -> Step:
        had_a_pause = self.step is Step.PAUSED or self._ladder.pause_ratio is None
        if timed and had_a_pause and self._reaches(self._ladder.kill_ratio, used_bytes):
            return Step.KILLED
        if self._reaches(self._ladder.pause_ratio, used_bytes):
            return Step.PAUSED
        if self.step is Step.PAUSED:
            low_ratio = self._ladder.degrade_ratio if self._ladder.degrade_ratio is not None else self._ladder.pause_ratio
            return Step.PAUSED if self._reaches(low_ratio, used_bytes) else Step.NORMAL
        return Step.DEGRADED if self._reaches(self._ladder.degrade_ratio, used_bytes) else Step.NORMAL

    def _reaches(self, ratio: float | None, used_bytes: int) -> bool:
        return ratio is not None and used_bytes >= self.limit_bytes * ratio
