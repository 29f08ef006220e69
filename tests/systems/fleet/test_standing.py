"""The state of a worker: steps of the table, over a resting state where it must be, told, counted, and waited for."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.core.states import IllegalTransitionError
from floodmark.systems.fleet.errors import StateTimeoutError
from floodmark.systems.fleet.metrics import Counters, Metric
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.standing import Standing
from floodmark.systems.fleet.states import WORKER_STEPS, WorkerState

W = WorkerState
COMING = (W.CLAIMING_ID, W.ELECTION, W.WAITING_ASSIGNMENT)
TAKING_PART = (W.WAITING_ASSIGNMENT, W.STABLE, W.SCALING, W.REBALANCING, W.EMERGENCY, W.DEGRADED)


def standing_in(state: WorkerState, steps: list[tuple[WorkerState, WorkerState]] | None = None) -> tuple[Standing, Counters]:
    counters = Counters()
    told = [] if steps is None else steps
    standing = Standing(counters, lambda old, new: told.append((old, new)))
    for passed in COMING:
        standing.enter(passed)
    if state is not W.WAITING_ASSIGNMENT:
        standing.enter(state)
    told.clear()
    return standing, counters


@pytest.mark.parametrize("resting", [W.WAITING_ASSIGNMENT, W.STABLE])
@pytest.mark.parametrize("goal", TAKING_PART)
@pytest.mark.parametrize("origin", TAKING_PART)
def test_standing_gets_from_any_state_to_any_other_by_legal_steps(origin: WorkerState, goal: WorkerState, resting: WorkerState) -> None:
    steps: list[tuple[WorkerState, WorkerState]] = []
    standing, _ = standing_in(origin, steps)

    standing.enter(goal, resting=resting)

    assert standing.state is goal
    assert all(WORKER_STEPS.allows(old, new) for old, new in steps)
    assert len(steps) <= 2


def test_standing_that_is_there_already_takes_no_step() -> None:
    steps: list[tuple[WorkerState, WorkerState]] = []
    standing, counters = standing_in(W.STABLE, steps)
    counted = counters.counted(Metric.STATE_TRANSITIONS)

    standing.enter(W.STABLE)

    assert steps == []
    assert counters.counted(Metric.STATE_TRANSITIONS) == counted == 4


def test_standing_refuses_what_no_resting_state_leads_to_and_stays() -> None:
    standing, _ = standing_in(W.STABLE)
    standing.enter(W.SHUTDOWN)

    with pytest.raises(IllegalTransitionError, match="it is final"):
        standing.enter(W.STABLE)

    assert standing.state is W.SHUTDOWN


@virtual
async def test_wait_is_woken_by_a_state_that_passes_and_gives_up_at_its_limit() -> None:
    standing, _ = standing_in(W.STABLE)
    waiting = asyncio.ensure_future(standing.wait(W.REBALANCING, 1.0))
    await asyncio.sleep(0)

    standing.enter(W.REBALANCING)
    standing.enter(W.STABLE)
    await waiting

    with pytest.raises(StateTimeoutError, match="did not become Emergency within 1 s; it is Stable"):
        await standing.wait(W.EMERGENCY, 1.0)
    assert standing._waiters == []
