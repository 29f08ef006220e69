"""Restart: the target ends, stays away for a while, and is started again, by whoever started it first.

Here: the ending, the wait until nothing of the tree is left, and the order of things; `Restarter` is the runner's part. When the block is
cancelled or fails while the target is down, it is not started again: the run is over.
"""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

import msgspec

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.faults.process.freeze import frozen
from floodmark.faults.process.journal import Entry
from floodmark.faults.process.spec import Scene
from floodmark.faults.process.tree import Process

GONE_LIMIT_S = 5.0
POLL_S = 0.005


class StillThereError(SystemUnderTestError):
    """A killed process does not go away."""

    def __init__(self, pids: tuple[int, ...], limit_s: float) -> None:
        super().__init__(pids, limit_s)
        self.pids, self.limit_s = pids, limit_s

    def __str__(self) -> str:
        return f"processes {self.pids} of the target are still there {self.limit_s:g} s after SIGKILL; they may hang in a file system"


class Restart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`how` "kill" ends the tree at once; "terminate" asks its root and kills what is left after `grace_s`."""

    LASTS: ClassVar[bool] = True
    KIND: ClassVar[str] = "restart"

    how: Literal["kill", "terminate"] = "kill"
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.grace_s < math.inf:
            raise UsageError(f"fault 'restart': grace_s must be finite and >= 0, got {self.grace_s!r}")

    @asynccontextmanager
    async def applied(self, scene: Scene) -> AsyncIterator[Entry]:
        """Hold the target down for the block, then have it started. A ratio below 1 is refused, except 0: half a restart is a `kill`."""
        if scene.restarter is None:
            raise UsageError("fault 'restart' needs a target that floodmark starts itself; give target.system or target.command")
        if scene.ratio not in (0, 1):
            raise UsageError(
                f"fault 'restart' takes the whole target, so ratio must be 0 or 1, got {scene.ratio!r}; use 'kill' for a share"
            )
        act = scene.journal.act(self.KIND, scene.occasion)
        if scene.ratio == 0:
            yield act.nothing("ratio is 0")
            return
        asked: list[Process] = []
        killed: list[Process] = []
        try:
            if self.how == "terminate":
                asked = scene.tree.processes()
                scene.tree.root.send(signal.SIGTERM)
                await gone(asked, self.grace_s)
            async with frozen(scene.tree) as still:
                killed += [process for process in still.processes if process.send(signal.SIGKILL)]
            if left := await gone(killed, GONE_LIMIT_S):
                raise StillThereError(tuple(process.pid for process in left), GONE_LIMIT_S)
        except BaseException:
            if hit := sorted({*asked, *killed}):
                act.applied(hit, note=f"{len(killed)} of {len(hit)} killed; cut short before they were seen to be gone")
            raise
        ended = sorted({*asked, *killed})
        note = f"{len(killed)} of {len(ended)} killed" if ended else "no process of the target was left; it is started all the same"
        yield act.applied(ended, note=note)
        await scene.restarter.restart()
        act.healed(ended, note="started again")


async def gone(processes: list[Process], limit_s: float) -> list[Process]:
    """Wait until all of these have ended; returns those that have not within the limit."""
    until_s = time.monotonic() + limit_s
    while (left := [process for process in processes if process.alive]) and time.monotonic() < until_s:  # noqa: ASYNC110  nobody tells us
        await asyncio.sleep(POLL_S)
    return left
