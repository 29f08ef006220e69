"""Descriptor limit: each process may open `extra` more files and sockets, then open, socket and accept fail (EMFILE).

The kernel limits the number a descriptor gets, not their count, and hands out the lowest free one: the limit is put above exactly `extra`
free numbers. Descriptors above it go on working. What is closed meanwhile can be opened again, if its number is below the limit.
"""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec

from floodmark.core.errors import UsageError
from floodmark.faults.process import procfs
from floodmark.faults.process.journal import Entry
from floodmark.faults.process.rlimit import lowered
from floodmark.faults.process.spec import Scene, Whom


class Descriptors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`extra` is how many more descriptors each process can open from now on. With a `name`, only those known by it."""

    LASTS: ClassVar[bool] = True
    KIND: ClassVar[str] = "descriptors"

    extra: int = 0
    whom: Whom = "tree"
    name: str = ""

    def __post_init__(self) -> None:
        if self.extra < 0:
            raise UsageError(f"fault 'descriptors': extra must be >= 0, got {self.extra!r}")

    @asynccontextmanager
    async def applied(self, scene: Scene) -> AsyncIterator[Entry]:
        """Hold the limit for the block."""

        def wanted(pid: int) -> int | None:
            used = procfs.descriptor_numbers(pid)
            return None if used is None else limit_for(used, self.extra)

        async with lowered(scene, self.KIND, resource.RLIMIT_NOFILE, self.whom, wanted, name=self.name) as entry:
            yield entry


def limit_for(used: Set[int], extra: int) -> int:
    """Return the highest limit with exactly `extra` free numbers below it.

    >>> limit_for({0, 1, 2, 5}, 0), limit_for({0, 1, 2, 5}, 2), limit_for({0, 1, 2, 5}, 3)
    (3, 6, 7)
    """
    free = -1
    limit = 0
    while True:
        free += limit not in used
        if free == extra:
            return limit
        limit += 1
