"""What a worker tells its user: that the assignment, the state or something else has changed.

Contract: each hook is awaited, one call at a time and in order. `on_assignment` is part of taking an assignment: the next one is taken
when it has returned, and a hand-over that asks for the old worker's word waits for it; a worker that must stop calls it with everything
removed.
`on_state` and `on_error` stand behind a bounded queue: a slow one misses the oldest, which is counted. What a hook raises goes to
`on_error`, what that one raises to the log, and it stops nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from floodmark.systems.fleet.errors import HookError
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.states import WorkerState

QUEUE_COUNT: Final = 256
_log = logging.getLogger("floodmark.fleet")


class AssignmentChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be taken on and what is to be given up; a partition whose weight changed is in neither."""

    worker_id: str
    epoch: int
    version: int
    lifecycle: str
    added: tuple[Partition, ...]
    removed: tuple[Partition, ...]


class StateChange(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a worker."""

    worker_id: str  # empty until it has one
    old: WorkerState
    new: WorkerState


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """The functions to call; None for those that nobody needs."""

    on_assignment: Callable[[AssignmentChange], Awaitable[None]] | None = None
    on_state: Callable[[StateChange], Awaitable[None]] | None = None
    on_error: Callable[[Exception], Awaitable[None]] | None = None


class HookQueue:
    """Hands states and errors to their hooks, from a task of its own; without such hooks there is nothing to run."""

    def __init__(self, hooks: Hooks, metrics: Metrics) -> None:
        self._hooks = hooks
        self._metrics = metrics
        self._waiting: deque[StateChange | Exception] = deque()
        self._more = asyncio.Event()

    @property
    def needed(self) -> bool:
        """Whether anybody is to be told."""
        return self._hooks.on_state is not None or self._hooks.on_error is not None

    def tell(self, news: StateChange | Exception) -> None:
        """Queue news; beyond QUEUE_COUNT the oldest goes."""
        if not self.needed:
            return
        if len(self._waiting) >= QUEUE_COUNT:
            self._waiting.popleft()
            self._metrics.count(Metric.STATE_CHANGES_DROPPED)
        self._waiting.append(news)
        self._more.set()

    async def run(self) -> None:
        """Call the hooks, until cancelled."""
        while True:
            await self._more.wait()
            await self.drain()

    async def drain(self) -> None:
        """Call the hooks for what waits now."""
        self._more.clear()
        while self._waiting:
            news = self._waiting.popleft()
            try:
                if isinstance(news, StateChange):
                    if self._hooks.on_state is not None:
                        await self._hooks.on_state(news)
                elif self._hooks.on_error is not None:
                    await self._hooks.on_error(news)
            except Exception as exc:
                if isinstance(news, StateChange):
                    self.tell(HookError("on_state", repr(exc)))
                else:  # it would be told of its own failure for ever
                    _log.error("the hook on_error failed with %r; what it was to be told of: %r", exc, news)
