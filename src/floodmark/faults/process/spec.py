"""What all process faults have in common: the scene they act on, whom they choose, and how long they last.

A fault is an async context manager: entering applies it to all its processes in one go, leaving heals it. Applying may await and undoes
itself when cancelled; healing never awaits (restart's, which starts a process, is the exception).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from floodmark.core.errors import UsageError
from floodmark.faults.process import procfs
from floodmark.faults.process.journal import Entry, Journal
from floodmark.faults.process.tree import Process, Tree

Whom = Literal["tree", "root", "workers"]


class Restarter(Protocol):
    """Whoever started the target, and can do it again."""

    async def restart(self) -> None:
        """Start the target anew and return when it is ready. The old one has ended by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a fault acts on: a share of a tree, drawn by the seed; another occasion draws others."""

    tree: Tree
    journal: Journal
    ratio: float = 1.0
    seed: int = 0
    occasion: int = 0
    restarter: Restarter | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise UsageError(f"fault ratio must be between 0 and 1, got {self.ratio!r}")

    def victims(self, processes: Sequence[Process], whom: Whom, name: str = "") -> list[Process]:
        """Choose round(ratio * n) of those meant, in the order given; with a name, all of that name are meant, whoever they are."""
        if name:
            meant = [process for process in processes if procfs.is_named(process.pid, name)]
        else:
            meant = [process for process in processes if whom == "tree" or (process == self.tree.root) == (whom == "root")]
        chosen = drawn(len(meant), self.ratio, seed=self.seed, occasion=self.occasion)
        return [process for place, process in enumerate(sorted(meant)) if place in chosen]


class ProcessFault(Protocol):
    """The options of a fault on processes, which also carry it out."""

    LASTS: ClassVar[bool]
    KIND: ClassVar[str]

    def applied(self, scene: Scene) -> AbstractAsyncContextManager[Entry]:
        """Apply for the block, then heal; gives the journal's entry, whose `hits` is 0 when nobody was touched."""
        ...


async def inflict(fault: ProcessFault, scene: Scene, *, for_s: float) -> Entry:
    """Apply a fault, keep it for `for_s`, heal it. Ratio 0 touches nothing; nor does `for_s` 0, for a fault that lasts.

    Cancelled half-way, the fault is healed. Raises: UsageError; SystemUnderTestError when the target's processes do not obey.
    """
    if fault.LASTS and for_s == 0:
        return scene.journal.act(fault.KIND, scene.occasion).nothing("for_s is 0")
    async with fault.applied(scene) as entry:
        if fault.LASTS and entry.hits:
            await asyncio.sleep(for_s)
    return entry


def drawn(count: int, ratio: float, *, seed: int, occasion: int) -> set[int]:
    """Draw exactly round(ratio * count) places out of `count` by the seed; another occasion draws others.

    >>> drawn(8, 0.5, seed=1, occasion=0) == drawn(8, 0.5, seed=1, occasion=0)
    True
    >>> len(drawn(8, 0.5, seed=1, occasion=0)), drawn(8, 0.0, seed=1, occasion=0)
    (4, set())
    """
    rng = np.random.default_rng([seed, occasion, 2])
    return set(rng.choice(count, size=round(ratio * count), replace=False).tolist()) if count else set()
