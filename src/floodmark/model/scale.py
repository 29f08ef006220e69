"""Make a scenario smaller or larger: its connections, its channels and its message counts, not its rates, sizes or times."""

from __future__ import annotations

import math

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.scenario import Scenario


def at_scale(scenario: Scenario, scale: float) -> Scenario:
    """Multiply the sizes of a scenario; never below one of each. The scale is kept in the scenario and printed with its result.

    Raises: UsageError for a scale that is not finite and positive.
    """
    if not 0 < scale < math.inf:
        raise UsageError(f"scale must be finite and greater than 0, got {scale!r}")
    if scale == 1.0:
        return scenario
    population = scenario.population
    connections = max(1, round(population.connections * scale))
    channels = min(max(1, round(population.channels * scale)), connections * population.subscriptions_per_connection)
    phases = tuple(
        phase if phase.messages is None else msgspec.structs.replace(phase, messages=max(1, round(phase.messages * scale)))
        for phase in scenario.phases
    )
    return msgspec.structs.replace(
        scenario,
        population=msgspec.structs.replace(
            population, connections=connections, channels=channels, waves=min(population.waves, connections)
        ),
        phases=phases,
        scale=scenario.scale * scale,
    )
