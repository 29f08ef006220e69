"""Where a worker stands: its state, which changes by the steps of the table only, and who waits for which.

Every step is counted and told. A waiter is woken by the step itself, so that a state that only passes is not missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from floodmark.systems.fleet.errors import StateTimeoutError
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.states import WORKER_STEPS, WorkerState


class Standing:
    """The state of one worker; `on_step` is told the old and the new one."""

    def __init__(self, metrics: Metrics, on_step: Callable[[WorkerState, WorkerState], None]) -> None:
        self.state = WorkerState.INIT
        self._metrics = metrics
        self._on_step = on_step
        self._waiters: list[tuple[WorkerState, asyncio.Future[None]]] = []

    def enter(self, state: WorkerState, *, resting: WorkerState = WorkerState.WAITING_ASSIGNMENT) -> None:
        """Go to a state, over the resting one where the table has no direct step. Raises: IllegalTransitionError."""
        if state is self.state:
            return
        if not WORKER_STEPS.allows(self.state, state):
            self._step(resting)
        self._step(state)

    def _step(self, state: WorkerState) -> None:
        old = self.state
        WORKER_STEPS.check(old, state)
        self.state = state
        self._metrics.count(Metric.STATE_TRANSITIONS, label=state.value)
        self._on_step(old, state)
        for wanted, waiter in self._waiters:
            if wanted is state and not waiter.done():
                waiter.set_result(None)

    async def wait(self, state: WorkerState, limit_s: float) -> None:
        """Wait until it is in a state, or has passed through it. Raises: StateTimeoutError."""
        if self.state is state:
            return
        entry = (state, asyncio.get_running_loop().create_future())
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(limit_s):
                await entry[1]
        except TimeoutError as exc:
            raise StateTimeoutError(state.value, self.state.value, limit_s) from exc
        finally:
            self._waiters.remove(entry)
