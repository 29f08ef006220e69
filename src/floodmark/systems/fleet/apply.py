"""Makes what is in force happen: one change after the other at the consumer and at the user's hook, and of several only the newest.

Contract: a change is applied when the consumer and the hook have returned. One that fails is told and tried again, after a pause, with
whatever is newest then. `added` and `removed` are counted from what was applied before: a hook that missed a version misses no partition.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from floodmark.systems.fleet.assignment import Assignment
from floodmark.systems.fleet.contact import Retry, Tell
from floodmark.systems.fleet.errors import ConsumerUpdateError, HookError
from floodmark.systems.fleet.hooks import AssignmentChange, Hooks
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.settings import Settings


class Consumer(Protocol):
    """Who works on partitions for a worker, as `consumer.DurableConsumer` does."""

    async def update(self, worker_id: str, partitions: Sequence[Partition], *, epoch: int = 0, version: int = 0) -> None:
        """Work on these from now on, and on no others: nothing of another is begun once it has returned."""
        ...

    async def aclose(self) -> None:
        """Stop for good."""
        ...


class Applier:
    """Applies the assignments of one worker; `on_applied` is called after each change."""

    def __init__(
        self,
        consumer: Consumer | None,
        hooks: Hooks,
        settings: Settings,
        *,
        tell: Tell,
        on_applied: Callable[[], None],
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self.worker_id = ""  # changes only while nothing is in force
        self.applied: Assignment | None = None
        self._wanted: Assignment | None = None
        self._in_force: dict[tuple[str, ...], Partition] = {}
        self._told = (0, 0)  # the last version that the hook was told of
        self._consumer = consumer
        self._hooks = hooks
        self._limit_s = settings.operation_limit_s
        self._tell = tell
        self._on_applied = on_applied
        self._metrics = metrics
        self._retry = Retry(rng.random)
        self._unsure = False  # the last try failed: it may have done a part
        self._news = asyncio.Event()
        self._rest = asyncio.Event()  # set while there is nothing to do
        self._rest.set()

    @property
    def settled(self) -> bool:
        """Whether what was wanted last has been applied."""
        return self.applied is self._wanted and not self._unsure

    async def wait_settled(self) -> None:
        """Wait until what was wanted last has been applied."""
        await self._rest.wait()

    def want(self, assignment: Assignment | None) -> None:
        """Apply this next; None is to stop working."""
        self._wanted = assignment
        self._rest.clear()
        self._news.set()

    async def run(self) -> None:
        """Apply until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while not self.settled:
                wanted = self._wanted
                try:
                    await self._apply(wanted)
                except Exception as exc:
                    self._unsure = True
                    self._tell(ConsumerUpdateError(wanted.version if wanted else 0, repr(exc)))
                    await self._pause()
                    continue
                self._retry.reset()
                self.applied, self._unsure = wanted, False
                self._on_applied()
            self._rest.set()

    async def _pause(self) -> None:
        """Wait before the next try, or until there is something newer to try."""
        try:
            async with asyncio.timeout(self._retry.pause_s()):
                await self._news.wait()
                self._news.clear()
        except TimeoutError:
            pass

    async def _apply(self, wanted: Assignment | None) -> None:
        partitions = wanted.partitions if wanted else ()
        if self._consumer is not None:
            epoch, version = wanted.rank if wanted else (0, 0)
            async with asyncio.timeout(self._limit_s):
                await self._consumer.update(self.worker_id, partitions, epoch=epoch, version=version)
        await self._tell_hook(wanted, partitions)

    async def _tell_hook(self, wanted: Assignment | None, partitions: Sequence[Partition]) -> None:
        before, after = self._in_force, {partition.keys: partition for partition in partitions}
        added = tuple(partition for keys, partition in after.items() if keys not in before)
        removed = tuple(partition for keys, partition in before.items() if keys not in after)
        self._in_force = after
        self._metrics.count(Metric.ASSIGNMENT_ADDED, len(added))
        self._metrics.count(Metric.ASSIGNMENT_REMOVED, len(removed))
        self._metrics.gauge(Metric.PARTITIONS, len(after))
        if wanted is not None:
            self._told = wanted.rank
            self._metrics.gauge(Metric.ASSIGNMENT_VERSION, wanted.version)
        if self._hooks.on_assignment is None:
            return
        change = AssignmentChange(
            worker_id=self.worker_id,
            epoch=self._told[0],
            version=self._told[1],
            lifecycle=wanted.lifecycle if wanted else "",
            added=added,
            removed=removed,
        )
        try:
            async with asyncio.timeout(self._limit_s):
                await self._hooks.on_assignment(change)
        except Exception as exc:
            self._tell(HookError("on_assignment", repr(exc)))

    async def finish(self) -> None:
        """Let go of everything, for good: the consumer is closed and the hook told. Only once `run` has ended."""
        self._wanted = self.applied = None
        try:
            if self._consumer is not None:
                await self._consumer.aclose()
        finally:
            if self._in_force:
                await self._tell_hook(None, ())
