"""Pause: the processes stand still (SIGSTOP) and go on later (SIGCONT), as a long garbage collection or a moved virtual machine looks.

Connections stay open and the kernel goes on taking bytes for them until the socket buffers are full. Timers of the target find, when it
wakes, that all the time has passed at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec

from floodmark.faults.process.freeze import frozen
from floodmark.faults.process.journal import Entry
from floodmark.faults.process.signals import none_left
from floodmark.faults.process.spec import Scene, Whom


class Pause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`whom`: the whole tree, its root only, or all but the root; with a `name`, the processes of the tree known by it instead."""

    LASTS: ClassVar[bool] = True
    KIND: ClassVar[str] = "pause"

    whom: Whom = "tree"
    name: str = ""

    @asynccontextmanager
    async def applied(self, scene: Scene) -> AsyncIterator[Entry]:
        """Hold the chosen still for the block. One that somebody else had stopped before is no hit and stays stopped."""
        act = scene.journal.act(self.KIND, scene.occasion)
        if scene.ratio == 0:
            yield act.nothing("ratio is 0")
            return
        with scene.tree.claimed("run state"):
            async with frozen(scene.tree) as still:
                chosen = set(scene.victims(still.processes, self.whom, self.name))
                still.release([process for process in still.processes if process not in chosen])
                held = still.held()
                if not held:
                    yield act.nothing(none_left(still.processes, self.name))
                    return
                try:
                    yield act.applied(held)
                finally:
                    awake = sum(1 for process in held if (look := process.look()) is not None and not (look.stopped or look.ended))
                    went = still.release_all()
                    lost = len(held) - len(went)
                    notes = [f"{awake} had been continued by somebody else"] * bool(awake) + [f"{lost} had ended"] * bool(lost)
                    act.healed(went, note="; ".join(notes))
