"""Arrival schedules: when each message of a phase is meant to be sent. One schedule per file; `ARRIVALS` is the whole list.

The parameters are `model.arrival`; the common contract is `schedule.Schedule`. Pure: no clock, no asyncio, no sockets.
A flood has no schedule, as the target's acknowledgements set its pace; whoever runs the load handles it before asking here.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from floodmark.core.errors import HarnessBugError
from floodmark.load.arrivals.burst import BurstSchedule
from floodmark.load.arrivals.constant import ConstantSchedule
from floodmark.load.arrivals.poisson import PoissonSchedule
from floodmark.load.arrivals.ramp import RampSchedule
from floodmark.load.arrivals.schedule import FAR_NS, Offsets, Schedule
from floodmark.load.arrivals.spike import SpikeSchedule
from floodmark.load.arrivals.step import StepSchedule
from floodmark.load.arrivals.wave import WaveSchedule
from floodmark.model.arrival import Arrival, Burst, Constant, Poisson, Ramp, Spike, Step, Wave

__all__ = ["ARRIVALS", "FAR_NS", "Offsets", "Schedule", "schedule"]

ARRIVALS: dict[type[msgspec.Struct], Callable[..., Schedule]] = {
    Constant: ConstantSchedule,
    Ramp: RampSchedule,
    Step: StepSchedule,
    Spike: SpikeSchedule,
    Wave: WaveSchedule,
    Burst: BurstSchedule,
    Poisson: PoissonSchedule,
}


def schedule(arrival: Arrival, *, duration_s: float | None, seed: int) -> Schedule:
    """Build the schedule of a phase.

    Args:
        arrival: any but Flood.
        duration_s: the length of the phase, where it has one; a ramp needs it.
        seed: of the run; used by what is random, and equal for all agents.
    Raises: UsageError for a ramp without a duration or a rate beyond 1e9/s; HarnessBugError for Flood.
    """
    build = ARRIVALS.get(type(arrival))
    if build is None:
        raise HarnessBugError(
            f"{type(arrival).__name__} has no arrival schedule: it is a closed loop and must be paced by acknowledgements"
        )
    return build(arrival, duration_s=duration_s, seed=seed)
