"""Memory limit: each process may grow by so much from what it has now, and no further; allocations beyond that fail (ENOMEM).

`area` "data" limits writable private memory (heap and anonymous maps, RLIMIT_DATA); "address_space" limits everything that is mapped, used
or not (RLIMIT_AS), thread stacks and reserved arenas with it. What the process has already stays. Memory that an allocator holds back
from earlier is not asked of the kernel and therefore not refused.
"""

from __future__ import annotations

import math
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

import msgspec

from floodmark.core.errors import UsageError
from floodmark.faults.process import procfs
from floodmark.faults.process.journal import Entry
from floodmark.faults.process.rlimit import lowered
from floodmark.faults.process.spec import Scene, Whom

_AREAS = {"data": (resource.RLIMIT_DATA, "VmData"), "address_space": (resource.RLIMIT_AS, "VmSize")}


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each process gets its size at that moment times `factor`, plus `extra_bytes`. With a `name`, only those known by it."""

    LASTS: ClassVar[bool] = True
    KIND: ClassVar[str] = "memory"

    extra_bytes: int = 0
    factor: float = 1.0
    area: Literal["data", "address_space"] = "data"
    whom: Whom = "tree"
    name: str = ""

    def __post_init__(self) -> None:
        if self.extra_bytes < 0:
            raise UsageError(f"fault 'memory': extra_bytes must be >= 0, got {self.extra_bytes!r}")
        if not 0 < self.factor < math.inf:
            raise UsageError(f"fault 'memory': factor must be finite and > 0, got {self.factor!r}")

    def limit_bytes(self, size_bytes: int) -> int:
        """The limit for a process of this size.

        >>> Memory(extra_bytes=1000, factor=1.5).limit_bytes(4000)
        7000
        """
        return round(size_bytes * self.factor) + self.extra_bytes

    @asynccontextmanager
    async def applied(self, scene: Scene) -> AsyncIterator[Entry]:
        """Hold the limit for the block."""
        which, field = _AREAS[self.area]

        def wanted(pid: int) -> int | None:
            size = procfs.size_bytes(pid, field)
            return None if size is None else self.limit_bytes(size)

        async with lowered(scene, self.KIND, which, self.whom, wanted, name=self.name) as entry:
            yield entry
