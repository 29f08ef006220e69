"""Which state may follow which: of a worker, and of the calculator that the leader runs. Data, over `core.states`.

The tables are the requirement's, with a few steps more, each marked. Without them a worker could not stop while it is degraded, could not
give up partitions that are no longer its own, could not take a new id, and a crash during a window would wait until the window ends.
"""

from __future__ import annotations

import enum
from typing import Final

from floodmark.core.states import Transitions


class WorkerState(enum.Enum):
    """What a worker is doing."""

    INIT = "Init"
    CLAIMING_ID = "ClaimingID"
    ELECTION = "Election"
    WAITING_ASSIGNMENT = "WaitingAssignment"  # takes part, and works on nothing
    STABLE = "Stable"  # works on what its record says
    SCALING = "Scaling"  # the leader waits for a window to end
    REBALANCING = "Rebalancing"  # the leader publishes
    EMERGENCY = "Emergency"  # the leader gives away what a lost worker had
    DEGRADED = "Degraded"  # the store does not answer
    SHUTDOWN = "Shutdown"


class CalculatorState(enum.Enum):
    """What the leader's calculator is doing."""

    IDLE = "Idle"
    SCALING = "Scaling"
    REBALANCING = "Rebalancing"
    EMERGENCY = "Emergency"


W = WorkerState
C = CalculatorState

WORKER_STEPS: Final = Transitions(
    {
        W.INIT: {W.CLAIMING_ID, W.SHUTDOWN},
        W.CLAIMING_ID: {W.ELECTION, W.SHUTDOWN},
        W.ELECTION: {W.WAITING_ASSIGNMENT, W.SHUTDOWN},
        # To ClaimingID (ours): the id was lost to another worker while this one stood still, and a new one is taken.
        W.WAITING_ASSIGNMENT: {W.STABLE, W.SCALING, W.REBALANCING, W.EMERGENCY, W.DEGRADED, W.CLAIMING_ID, W.SHUTDOWN},
        # To WaitingAssignment (ours, D7): its own lease has lapsed, or its record is gone.
        W.STABLE: {W.SCALING, W.REBALANCING, W.EMERGENCY, W.DEGRADED, W.WAITING_ASSIGNMENT, W.SHUTDOWN},
        # To Emergency (ours, D4): a loss does not wait for the window, nor for a round that cannot be published.
        W.SCALING: {W.REBALANCING, W.EMERGENCY, W.WAITING_ASSIGNMENT, W.STABLE, W.DEGRADED, W.SHUTDOWN},
        W.REBALANCING: {W.EMERGENCY, W.STABLE, W.WAITING_ASSIGNMENT, W.DEGRADED, W.SHUTDOWN},
        W.EMERGENCY: {W.STABLE, W.WAITING_ASSIGNMENT, W.DEGRADED, W.SHUTDOWN},
        # To Shutdown and WaitingAssignment (ours): stopping must be possible; what was frozen may have been given away meanwhile.
        W.DEGRADED: {W.STABLE, W.WAITING_ASSIGNMENT, W.SHUTDOWN},
        W.SHUTDOWN: set(),
    }
)
CALCULATOR_STEPS: Final = Transitions(
    {
        C.IDLE: {C.SCALING, C.REBALANCING, C.EMERGENCY},  # to Rebalancing at once (ours): a refresh by hand has no window
        C.SCALING: {C.REBALANCING, C.EMERGENCY, C.IDLE},
        C.REBALANCING: {C.EMERGENCY, C.SCALING, C.IDLE},  # to Scaling (ours): a cold start publishes at once, and then waits the window
        C.EMERGENCY: {C.IDLE},
    }
)
STATE_OF_LEADER: Final = {
    C.SCALING: W.SCALING,
    C.REBALANCING: W.REBALANCING,
    C.EMERGENCY: W.EMERGENCY,
}  # Idle is not here: the worker is then what its own assignment says
