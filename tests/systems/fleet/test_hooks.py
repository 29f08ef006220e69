"""The queue before the hooks for states and errors: in order, bounded, and not ended by a hook that raises."""

from __future__ import annotations

import asyncio
import logging

import pytest

from floodmark.systems.fleet.errors import HookError
from floodmark.systems.fleet.hooks import QUEUE_COUNT, HookQueue, Hooks, StateChange
from floodmark.systems.fleet.metrics import Counters, Metric
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.states import WorkerState


def change(number: int) -> StateChange:
    return StateChange(worker_id=f"worker-{number}", old=WorkerState.STABLE, new=WorkerState.SCALING)


@virtual
async def test_queue_without_hooks_for_it_keeps_nothing() -> None:
    async def on_assignment(_change: object) -> None:
        raise AssertionError

    queue = HookQueue(Hooks(on_assignment=on_assignment), Counters())

    queue.tell(change(1))

    assert not queue.needed
    assert not queue._waiting


@virtual
async def test_queue_tells_in_order_and_beyond_its_bound_drops_the_oldest_and_counts_them() -> None:
    told: list[str] = []
    counters = Counters()

    async def on_state(news: StateChange) -> None:
        told.append(news.worker_id)

    queue = HookQueue(Hooks(on_state=on_state), counters)
    for number in range(QUEUE_COUNT + 3):
        queue.tell(change(number))

    await queue.drain()

    assert told == [f"worker-{number}" for number in range(3, QUEUE_COUNT + 3)]
    assert counters.counted(Metric.STATE_CHANGES_DROPPED) == 3


@virtual
async def test_queue_with_a_hook_that_raises_goes_on_and_tells_the_error_hook() -> None:
    errors: list[Exception] = []

    async def on_state(_news: StateChange) -> None:
        raise KeyError("planted")

    async def on_error(error: Exception) -> None:
        errors.append(error)
        raise KeyError("planted, too")

    queue = HookQueue(Hooks(on_state=on_state, on_error=on_error), Counters())
    running = asyncio.ensure_future(queue.run())

    queue.tell(change(1))
    queue.tell(ValueError("another"))
    await asyncio.sleep(0.1)

    assert [type(error) for error in errors] == [ValueError, HookError]
    assert "the hook on_state raised KeyError('planted')" in str(errors[1])
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@virtual
async def test_queue_whose_error_hook_raises_leaves_it_in_the_log_with_what_it_was_to_be_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def on_error(_error: Exception) -> None:
        raise KeyError("planted")

    queue = HookQueue(Hooks(on_error=on_error), Counters())

    with caplog.at_level(logging.ERROR, "floodmark.fleet"):
        queue.tell(ValueError("the news"))
        await queue.drain()

    assert [record.getMessage() for record in caplog.records] == [
        "the hook on_error failed with KeyError('planted'); what it was to be told of: ValueError('the news')"
    ]
