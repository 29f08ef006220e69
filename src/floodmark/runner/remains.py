"""What is left of agents that were lost and replaced: what they had reported, a quarter of a second before their end at the latest.

Their accounts are gone with them, so that what is counted of the load as a whole, and what went wrong in it, are least figures from then
on: a limit from above cannot be kept by them, nor one from below be broken. What they had reported of latencies, of their own lateness and
of lost connections is at hand, and a verdict that passed it over would be wrong by what it knew. Pure.
Limits: of deliveries it is only known what the others account for; docs/distributed.md says what becomes of each anomaly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from floodmark.judge.verdict import Observations
from floodmark.ledger.histogram import Histogram
from floodmark.model.metrics import METRICS
from floodmark.runner.wire import Progress

WHOLE = ("attempted", "acknowledged", "delivered", "indeterminate", "published", "throughput", "publish_rate")
"""Metrics of the load as a whole: sums over all agents, and what is divided by a time."""
SEEN_THERE = (
    *("lost", "duplicated", "reordered", "corrupted", "unexpected"),
    *("refused", "unanswered", "ended", "disconnects", "reconnects"),
    *("latency_max", "service_latency_max", "ack_latency_max"),
)
"""What each agent alone sees of its part: what the others saw of it is no less than that, and none of it proves that there was none."""
SKEWED = (
    *("delivery_ratio", "error_ratio", "stats_error", "rss_per_delivery"),
    *("recovery", "recovered_ratio", "first_delivery", "full_rate", "backlog_drained", "degraded"),
)
"""What is divided by, compared with or timed by a load of which a part was not there, or is not counted: it may be too high or too low."""


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """What one lost agent had reported: encoded histograms, the response latencies by the phase in which they were reported."""

    published: int
    disconnects: int
    response: dict[int, bytes]
    service: bytes
    lag: bytes


class Reported:
    """Adds up the reports of one agent. Memory: two histograms, and one for each phase."""

    def __init__(self) -> None:
        self._response: dict[int, Histogram] = {}
        self._service, self._lag = Histogram(), Histogram()
        self._published = self._disconnects = 0

    def add(self, progress: Progress, phase: int) -> None:
        """Take a report; `phase` is the number of the phase being played."""
        self._response.setdefault(phase, Histogram()).merge(Histogram.from_wire(progress.response))
        self._service.merge(Histogram.from_wire(progress.service))
        self._lag.merge(Histogram.from_wire(progress.lag))
        self._published, self._disconnects = progress.published, progress.disconnects

    def remains(self) -> Remains:
        """All of it, when there will be no more."""
        return Remains(
            published=self._published,
            disconnects=self._disconnects,
            response={phase: histogram.to_wire() for phase, histogram in self._response.items()},
            service=self._service.to_wire(),
            lag=self._lag.to_wire(),
        )


def at_least(observations: Observations, lost_count: int) -> Observations:
    """The same figures where so many agents were lost: sums are no less than these, and may be more; what is skewed by it is none."""
    if not lost_count:
        return observations
    agents = "an agent" if lost_count == 1 else f"{lost_count} agents"
    why = f"{agents} took along what had been counted there"
    least = (*WHOLE, *SEEN_THERE)
    return msgspec.structs.replace(
        observations,
        values=_without(observations.values, SKEWED),
        missing={**observations.missing, **{name: why for name in SKEWED if name in METRICS}},
        at_least={**{name: why for name in least if name in METRICS}, **observations.at_least},
        phases={phase: _without(figures, SKEWED) for phase, figures in observations.phases.items()},
        unplaced={
            phase: {**observations.unplaced.get(phase, {}), **{name: math.inf for name in least if name in figures}}
            for phase, figures in observations.phases.items()
        },
    )


def _without(figures: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if name not in names}


def responses(remains: Iterable[Remains], phase: int | None = None) -> list[bytes]:
    """The response latencies of a phase, or of all."""
    return [data for one in remains for number, data in one.response.items() if phase is None or number == phase]


def services(remains: Iterable[Remains]) -> list[bytes]:
    """The service latencies."""
    return [one.service for one in remains]
