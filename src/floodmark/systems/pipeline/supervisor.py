"""Runs the tasks of a pipeline, one for one: a child that breaks in a curable way is started again, the others go on.

A child may be started again `restarts_max` times within `window_s`; the next crash inside that window is final and comes out as
GaveUpError. The budget is each child's own, so that one stream in a crash loop cannot take the others with it. The supervisor is the
parent of its tasks: it holds them, and closing it cancels and awaits them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from floodmark.core.clock import Clock
from floodmark.systems.pipeline.errors import PipelineError, RecoverableError, SupervisorNotFoundError, reason_of

log = logging.getLogger(__name__)


class GaveUpError(PipelineError):
    """A child broke more often than it may be started again; its last error is the cause."""

    kind = "restarts_exhausted"

    def __init__(self, name: str, restarts_max: int, window_s: float, reason: str) -> None:
        super().__init__(name, restarts_max, window_s, reason)
        self.name, self.restarts_max, self.window_s, self.reason = name, restarts_max, window_s, reason

    def __str__(self) -> str:
        return f"{self.name} broke again after {self.restarts_max} restarts within {self.window_s:g} s, last with {self.reason}"


def if_recoverable(error: Exception) -> bool:
    """Restart a stage only where it says itself that a new start cures it; anything else is a failure of the stream."""
    return isinstance(error, RecoverableError)


def always(error: Exception) -> bool:
    """Restart a service after whatever broke it."""
    return True


class Supervisor:
    """The parent of a pipeline's tasks."""

    def __init__(self, clock: Clock, *, restarts_max: int = 10, window_s: float = 60.0, shutdown_s: float = 5.0) -> None:
        self._clock = clock
        self._restarts_max = restarts_max
        self._window_s = window_s
        self.shutdown_s = shutdown_s
        self._children: set[asyncio.Task[None]] = set()
        self.is_closed = False
        self.restarted_count = 0

    @property
    def children(self) -> frozenset[asyncio.Task[None]]:
        """The tasks that are alive."""
        return frozenset(self._children)

    def start(
        self, name: str, job: Callable[[], Coroutine[Any, Any, None]], *, restart: Callable[[Exception], bool] = if_recoverable
    ) -> asyncio.Task[None]:
        """Run a job as a child; `restart` says after which errors it is begun anew.

        Returns: the child's task, which ends as the job does: with nothing, its error, or GaveUpError.
        Raises: SupervisorNotFoundError once closed.
        """
        if self.is_closed:
            raise SupervisorNotFoundError("the pipeline is closed; open a new one")
        # The supervisor is the parent that a TaskGroup would be, but one child's failure must not end its siblings.
        task = asyncio.get_running_loop().create_task(self._keep(name, job, restart), name=name)
        self._children.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _keep(self, name: str, job: Callable[[], Coroutine[Any, Any, None]], restart: Callable[[Exception], bool]) -> None:
        restarted_s: deque[float] = deque()
        while True:
            try:
                await job()
                return
            except Exception as exc:
                if not restart(exc):
                    raise
                now_s = self._clock.now_s()
                while restarted_s and now_s - restarted_s[0] > self._window_s:
                    restarted_s.popleft()
                if len(restarted_s) >= self._restarts_max:
                    raise GaveUpError(name, self._restarts_max, self._window_s, reason_of(exc)) from exc
                restarted_s.append(now_s)
                self.restarted_count += 1
                log.warning("%s broke and is started again (%d of %d): %s", name, len(restarted_s), self._restarts_max, reason_of(exc))
                await asyncio.sleep(0)  # a job that breaks at once must not hold the loop

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._children.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here: whoever watches the task acts on it

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        """Cancel children and wait until they have ended, `shutdown_s` at most; their errors are not raised."""
        mine = {task for task in tasks if task is not asyncio.current_task() and not task.done()}
        for task in mine:
            task.cancel()
        if mine:
            _, late = await asyncio.wait(mine, timeout=self.shutdown_s)
            for task in late:
                log.error("%s did not end within %g s of its cancellation", task.get_name(), self.shutdown_s)

    async def aclose(self) -> None:
        """Take no more children; stop those there are."""
        self.is_closed = True
        await self.stop(*self._children)
