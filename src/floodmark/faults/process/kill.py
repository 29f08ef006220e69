"""Kill: the processes end at once (SIGKILL) and get no chance to tidy up, as after a crash or the kernel's out-of-memory killer.

The tree stands still while it is done: no supervisor in it sees one of its workers dead while another is still alive.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec

from floodmark.faults.process.journal import Entry
from floodmark.faults.process.signals import send_at_once
from floodmark.faults.process.spec import Scene, Whom


class Kill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`whom`: the whole tree, its root only, or all but the root; with a `name`, the processes of the tree known by it instead."""

    LASTS: ClassVar[bool] = False
    KIND: ClassVar[str] = "kill"

    whom: Whom = "tree"
    name: str = ""

    @asynccontextmanager
    async def applied(self, scene: Scene) -> AsyncIterator[Entry]:
        """Kill; there is nothing to heal."""
        yield await send_at_once(scene, self.KIND, self.whom, signal.SIGKILL, name=self.name)
