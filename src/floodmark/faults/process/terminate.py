"""Terminate: the processes are asked to end (SIGTERM), as at a deployment; what they make of it is part of the test.

The root alone by default, as a container's runtime does; `whom="tree"` is what systemd does. A process that ignores the signal lives on.
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


class Terminate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`whom`: the root only, the whole tree, or all but the root; with a `name`, the processes of the tree known by it instead."""

    LASTS: ClassVar[bool] = False
    KIND: ClassVar[str] = "terminate"

    whom: Whom = "root"
    name: str = ""

    @asynccontextmanager
    async def applied(self, scene: Scene) -> AsyncIterator[Entry]:
        """Ask them to end; there is nothing to heal."""
        yield await send_at_once(scene, self.KIND, self.whom, signal.SIGTERM, name=self.name)
