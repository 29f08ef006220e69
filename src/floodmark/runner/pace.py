"""The rates of this moment: what a phase asks for, and what the agents do.

`rate_at` reads the schedule of a phase as a rate; `Pace` turns running totals into rates over the last second, agent by agent, each by the
times of its own reports, so that a report which comes a moment late changes nothing. For a person who watches: no verdict rests on these.
Memory: five reports of each agent.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from floodmark.model.arrival import Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave
from floodmark.model.scenario import Phase
from floodmark.runner.wire import Progress

REPORTS_COUNT = 5  # four intervals between them: a second


class Rates(NamedTuple):
    """Messages published and delivered per second."""

    published_hz: float
    delivered_hz: float


def rate_at(phase: Phase, at_s: float) -> float | None:
    """Messages per second that a phase asks for, `at_s` after its start; 0 outside of it, None for a flood, which takes what it gets.

    >>> rate_at(Phase(arrival=Ramp(from_hz=100, to_hz=300), duration_s=10), 5)
    200.0
    """
    if at_s < 0 or (phase.duration_s is not None and at_s >= phase.duration_s):
        return 0.0
    match phase.arrival:
        case Constant(rate_hz=rate_hz) | Poisson(rate_hz=rate_hz):
            return rate_hz
        case Ramp(from_hz=from_hz, to_hz=to_hz):
            return from_hz + (to_hz - from_hz) * at_s / phase.duration_s if phase.duration_s else from_hz
        case Step(from_hz=from_hz, step_hz=step_hz, every_s=every_s):
            return from_hz + step_hz * (at_s // every_s)
        case Spike(rate_hz=rate_hz, peak_hz=peak_hz, at_s=begins_s, for_s=for_s):
            return peak_hz if begins_s <= at_s < begins_s + for_s else rate_hz
        case Wave(rate_hz=rate_hz, amplitude_hz=amplitude_hz, period_s=period_s):
            return rate_hz + amplitude_hz * math.sin(2 * math.pi * at_s / period_s)
        case Burst(count=count, every_s=every_s):
            return count / every_s
        case Flood():
            return None


class Pace:
    """The rates of all agents together."""

    def __init__(self) -> None:
        self._reports: dict[int, deque[tuple[int, int, int]]] = {}  # (at_ns, published, received), oldest first

    def add(self, agent: int, progress: Progress) -> Rates:
        """Take an agent's report; returns the rates by now."""
        reports = self._reports.setdefault(agent, deque(maxlen=REPORTS_COUNT))
        reports.append((progress.at_ns, progress.published, progress.received))
        published = delivered = 0.0
        for each in self._reports.values():
            oldest, newest = each[0], each[-1]
            took_s = (newest[0] - oldest[0]) / 1e9
            if took_s > 0:
                published += (newest[1] - oldest[1]) / took_s
                delivered += (newest[2] - oldest[2]) / took_s
        return Rates(published, delivered)
