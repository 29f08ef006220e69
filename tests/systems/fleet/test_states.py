"""The tables of states: what the requirement names, and what is ours."""

from __future__ import annotations

import itertools

import pytest

from floodmark.core.states import IllegalTransitionError
from floodmark.systems.fleet.states import CALCULATOR_STEPS, STATE_OF_LEADER, WORKER_STEPS, CalculatorState, WorkerState

W = WorkerState
C = CalculatorState

REQUIRED = {
    W.INIT: {W.CLAIMING_ID, W.SHUTDOWN},
    W.CLAIMING_ID: {W.ELECTION, W.SHUTDOWN},
    W.ELECTION: {W.WAITING_ASSIGNMENT, W.SHUTDOWN},
    W.WAITING_ASSIGNMENT: {W.STABLE, W.SCALING, W.REBALANCING, W.EMERGENCY, W.SHUTDOWN, W.DEGRADED},
    W.STABLE: {W.SCALING, W.REBALANCING, W.EMERGENCY, W.SHUTDOWN, W.DEGRADED},
    W.SCALING: {W.REBALANCING, W.WAITING_ASSIGNMENT, W.STABLE, W.SHUTDOWN, W.DEGRADED},
    W.REBALANCING: {W.STABLE, W.WAITING_ASSIGNMENT, W.SHUTDOWN, W.DEGRADED},
    W.EMERGENCY: {W.STABLE, W.WAITING_ASSIGNMENT, W.SHUTDOWN, W.DEGRADED},
    W.DEGRADED: {W.STABLE, W.SHUTDOWN},
    W.SHUTDOWN: set(),
}
OURS = {
    (W.WAITING_ASSIGNMENT, W.CLAIMING_ID),
    (W.STABLE, W.WAITING_ASSIGNMENT),
    (W.SCALING, W.EMERGENCY),
    (W.REBALANCING, W.EMERGENCY),
    (W.DEGRADED, W.WAITING_ASSIGNMENT),
}


def test_worker_steps_are_the_required_ones_and_those_named_ours() -> None:
    found = {(old, new) for old in W for new in W if WORKER_STEPS.allows(old, new)}

    assert found == {(old, new) for old, news in REQUIRED.items() for new in news} | OURS


@pytest.mark.parametrize("state", [state for state in W if state is not W.SHUTDOWN])
def test_worker_in_any_state_may_shut_down(state: WorkerState) -> None:
    assert WORKER_STEPS.allows(state, W.SHUTDOWN)


def test_worker_that_has_shut_down_stays_so() -> None:
    with pytest.raises(IllegalTransitionError, match="it is final"):
        WORKER_STEPS.check(W.SHUTDOWN, W.STABLE)


@pytest.mark.parametrize("path", [[C.IDLE, C.SCALING, C.REBALANCING, C.IDLE], [C.IDLE, C.EMERGENCY, C.IDLE]])
def test_calculator_may_walk_the_required_paths(path: list[CalculatorState]) -> None:
    for old, new in itertools.pairwise(path):
        CALCULATOR_STEPS.check(old, new)


def test_leader_shows_every_state_of_its_calculator_but_rest() -> None:
    assert {state.value: shown.value for state, shown in STATE_OF_LEADER.items()} == {
        state.value: state.value for state in C if state is not C.IDLE
    }
