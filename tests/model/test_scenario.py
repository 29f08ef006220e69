"""The structs refuse on their own what cannot be run, also when built from Python, where nothing else looks at types."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from floodmark.core.errors import UsageError
from floodmark.model.arrival import Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave
from floodmark.model.criterion import parse
from floodmark.model.scenario import Bursty, Fault, Phase, Population, Scenario, Slow, Stuck, Target

STEADY = Phase(duration_s=1.0)
NUMBERS: list[tuple[str, Callable[[float], object]]] = [
    ("constant.rate_hz", lambda value: Constant(rate_hz=value)),
    ("ramp.to_hz", lambda value: Ramp(from_hz=1, to_hz=value)),
    ("step.step_hz", lambda value: Step(from_hz=1, step_hz=value, every_s=1)),
    ("spike.at_s", lambda value: Spike(rate_hz=1, peak_hz=2, at_s=value, for_s=1)),
    ("wave.period_s", lambda value: Wave(rate_hz=2, amplitude_hz=1, period_s=value)),
    ("burst.every_s", lambda value: Burst(count=1, every_s=value)),
    ("poisson.rate_hz", lambda value: Poisson(rate_hz=value)),
    ("slow.rate_bytes_per_s", lambda value: Slow(rate_bytes_per_s=value)),
    ("bursty.pause_s", lambda value: Bursty(read_s=1, pause_s=value)),
    ("stuck.after_s", lambda value: Stuck(after_s=value)),
    ("population.consumer_ratio", lambda value: Population(connections=1, consumer_ratio=value)),
    ("phase.duration_s", lambda value: Phase(duration_s=value)),
    ("fault.at_s", lambda value: Fault(kind="x", at_s=value)),
    ("fault.ratio", lambda value: Fault(kind="x", ratio=value)),
    ("target.start_limit_s", lambda value: Target(url="ws://h", start_limit_s=value)),
    ("scenario.lag_limit_s", lambda value: scenario(lag_limit_s=value)),
    ("scenario.scale", lambda value: scenario(scale=value)),
]
WHOLE: list[tuple[str, Callable[[int], object]]] = [
    ("burst.count", lambda value: Burst(count=value, every_s=1)),
    ("flood.in_flight", lambda value: Flood(in_flight=value)),
    ("population.connections", lambda value: Population(connections=value)),
    ("population.waves", lambda value: Population(connections=1, waves=value)),
    ("phase.payload_bytes", lambda value: Phase(duration_s=1, payload_bytes=value)),
    ("phase.messages", lambda value: Phase(messages=value)),
    ("fault.repeat", lambda value: Fault(kind="x", repeat=value)),
]


def scenario(
    *,
    phases: tuple[Phase, ...] = (STEADY,),
    criterion: str = "lost == 0",
    lag_limit_s: float = 1.0,
    scale: float = 1.0,
    population: Population = Population(connections=1),  # noqa: B008  # frozen
    second_load: bool = False,
) -> Scenario:
    """A small valid scenario."""
    return Scenario(
        id="x",
        population=population,
        phases=phases,
        criteria=(parse(criterion),),
        lag_limit_s=lag_limit_s,
        second_load=second_load,
        scale=scale,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, "1"])
@pytest.mark.parametrize(("field", "make"), NUMBERS, ids=[field for field, _ in NUMBERS])
def test_struct_what_is_no_number_in_range_is_refused(field: str, make: Callable[[float], object], value: float) -> None:
    with pytest.raises(UsageError) as caught:
        make(value)

    assert str(caught.value).startswith(f"{field} must be ")
    assert str(caught.value).endswith(f"got {value!r}")


@pytest.mark.parametrize("value", [0, -1, True, 1.0, math.nan, "1"])
@pytest.mark.parametrize(("field", "make"), WHOLE, ids=[field for field, _ in WHOLE])
def test_struct_what_is_no_whole_number_is_refused(field: str, make: Callable[[int], object], value: int) -> None:
    with pytest.raises(UsageError) as caught:
        make(value)

    assert str(caught.value) == f"{field} must be a whole number of at least 1, got {value!r}"


@pytest.mark.parametrize(("field", "make"), [*NUMBERS, *WHOLE], ids=[field for field, _ in [*NUMBERS, *WHOLE]])
def test_struct_a_whole_number_in_range_is_taken(field: str, make: Callable[[int], object]) -> None:
    assert make(1)


def test_phase_a_ramp_without_duration_is_refused() -> None:
    ramp = Ramp(from_hz=1.0, to_hz=2.0)

    with pytest.raises(UsageError, match="is a ramp, which needs duration_s"):
        Phase(arrival=ramp, messages=100)
    assert Phase(arrival=ramp, messages=100, duration_s=1.0)


def test_phase_a_spike_after_its_end_is_refused() -> None:
    spike = Spike(rate_hz=1.0, peak_hz=2.0, at_s=5.0, for_s=1.0)

    with pytest.raises(UsageError, match="spike at 5 s would never come"):
        Phase(arrival=spike, duration_s=5.0)
    assert Phase(arrival=spike, duration_s=5.1)


def test_scenario_a_criterion_of_an_unknown_phase_is_refused() -> None:
    with pytest.raises(UsageError, match="names the phase 'storm', but the phases are: 'steady'"):
        scenario(criterion="latency_p99 @ storm < 1s")
    assert scenario(criterion="latency_p99 @ steady < 1s")


def test_scenario_criteria_as_plain_text_are_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"criteria must hold parsed criteria, got 'lost == 0'; use criterion\.parse"):
        Scenario(id="x", population=Population(connections=1), phases=(STEADY,), criteria=("lost == 0",))  # type: ignore[arg-type]


def test_population_sources_are_at_least_one_per_channel() -> None:
    assert Population(connections=9, channels=3, publishers=2).sources == 3
    assert Population(connections=9, channels=3, publishers=5).sources == 5
    assert Population(connections=9, subscriptions_per_connection=2).subscriptions == 18


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((1, 0), r"population.shares\[1\] must be a whole number of at least 1, got 0"),
        ((1, 2, 3), "population.shares has 3 entries for 2 sources"),
        ((1, 1_000_000), "a round of 1,000,001 messages, above 1,000,000"),
    ],
)
def test_population_shares_that_cannot_be_dealt_are_refused(shares: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Population(connections=2, channels=2, shares=shares)


def test_population_shares_with_a_common_factor_are_no_larger_than_without() -> None:
    assert Population(connections=2, channels=2, shares=(1_000_000_000, 2_000_000_000)).shares[1] == 2_000_000_000


def test_scenario_second_load_plays_the_phases_again_under_names_of_their_own() -> None:
    twice = scenario(second_load=True, criterion="latency_p99 @ steady-again < 2x steady")

    assert [phase.name for phase in twice.played] == ["steady", "steady-again"]
    assert [phase.name for phase in scenario().played] == ["steady"]


def test_scenario_second_load_whose_names_meet_those_of_the_first_is_refused() -> None:
    phases = (STEADY, Phase(name="steady-again", duration_s=1.0))

    with pytest.raises(UsageError, match="phase names must differ"):
        scenario(second_load=True, phases=phases)


def test_scenario_second_load_with_slow_consumers_is_refused() -> None:
    population = Population(connections=1, consumer=Slow(rate_bytes_per_s=1))

    with pytest.raises(UsageError, match="a second load must be the first one again"):
        scenario(second_load=True, population=population)
