"""What a search may vary: names, bounds, and the scenario with a value in place."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave
from floodmark.model.criterion import parse as criterion
from floodmark.model.scenario import Fault, Phase, Population, Scenario
from floodmark.model.vary import parse, rate_of, timed, varied

PACED: tuple[Arrival, ...] = (
    Constant(rate_hz=100),
    Poisson(rate_hz=100),
    Ramp(from_hz=10, to_hz=100),
    Ramp(from_hz=100, to_hz=10),
    Step(from_hz=20, step_hz=20, every_s=2),
    Spike(rate_hz=100, peak_hz=500, at_s=2, for_s=1),
    Wave(rate_hz=100, amplitude_hz=50, period_s=4),
    Burst(count=50, every_s=0.5),
)


def scenario(*phases: Phase, **more: object) -> Scenario:
    return Scenario(
        id="tried",
        population=Population(connections=10, channels=5, waves=8),
        phases=phases or (Phase(arrival=Constant(rate_hz=100), duration_s=10),),
        criteria=(criterion("lost == 0"),),
        driver_options={"batch": 5, "wait_s": 0.5, "name": "x", "on": True},
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("arrival", PACED, ids=lambda arrival: type(arrival).__name__)
def test_varied_rate_of_every_arrival_is_the_value_and_its_shape_stays(arrival: Arrival) -> None:
    base = scenario(Phase(arrival=arrival, duration_s=10))
    assert rate_of(base.phases[0]) == 100

    changed = varied(base, parse("rate_hz=10..1000", base), 700)

    assert rate_of(changed.phases[0]) == pytest.approx(700)
    again = varied(changed, parse("rate_hz=10..1000", changed), 100)
    assert again.phases[0].arrival.__struct_fields__ == arrival.__struct_fields__
    for name in arrival.__struct_fields__:
        assert getattr(again.phases[0].arrival, name) == pytest.approx(getattr(arrival, name))


def test_varied_rate_of_several_phases_is_that_of_the_busiest_and_the_others_keep_their_share() -> None:
    base = scenario(
        Phase(name="calm", arrival=Constant(rate_hz=50), duration_s=1),
        Phase(name="busy", arrival=Constant(rate_hz=2000), duration_s=1),
        Phase(name="flood", arrival=Flood(), messages=9),
    )

    changed = varied(base, parse("rate_hz=100..10k", base), 4000)

    assert [rate_of(phase) for phase in changed.phases] == [100, 4000, None]


def test_varied_path_of_one_phase_leaves_the_others_alone() -> None:
    base = scenario(Phase(name="calm", duration_s=1), Phase(name="busy", duration_s=1))

    faster = varied(base, parse("phases.busy.rate_hz=10..1000", base), 700)
    larger = varied(base, parse("phases.calm.payload_bytes=100..10KB", base), 5000)

    assert [rate_of(phase) for phase in faster.phases] == [100, 700]
    assert [phase.payload_bytes for phase in larger.phases] == [5000, 200]


@pytest.mark.parametrize("name", ["connections", "population.connections"])
def test_varied_connections_are_whole_and_have_no_more_waves_than_connections(name: str) -> None:
    base = scenario()

    few = varied(base, parse(f"{name}=5..100", base), 5)

    assert few.population.connections == 5
    assert isinstance(few.population.connections, int)
    assert few.population.waves == 5


@pytest.mark.parametrize(
    ("text", "value", "seen"),
    [
        ("driver_options.batch=1..100", 7.0, 7),
        ("driver_options.wait_s=0.1..2", 1.0, 1.0),
        ("driver_options.wait_s=1..5", 1.5, 1.5),
        ("driver_options.further=1..9", 2.0, 2),
    ],
)
def test_varied_driver_option_is_whole_where_its_bounds_and_its_value_are(text: str, value: float, seen: float) -> None:
    base = scenario()
    vary = parse(text, base)

    option = varied(base, vary, value).driver_options[vary.name.partition(".")[2]]

    assert option == seen
    assert type(option) is type(seen)


@pytest.mark.parametrize(
    ("text", "lo", "hi", "unit", "whole"),
    [
        ("rate_hz=1000..1000000", 1e3, 1e6, "/s", False),
        ("rate_hz=1k..1M", 1e3, 1e6, "/s", False),
        (" rate_hz = 1000/s .. 100k/s ", 1e3, 1e5, "/s", False),
        ("rate_hz=0.5..2.5", 0.5, 2.5, "/s", False),
        ("payload_bytes=100B..64KiB", 100, 65536, "B", True),
        ("connections=100..10k", 100, 10_000, "", True),
    ],
)
def test_parse_reads_bounds_in_the_units_of_a_scenario_file(text: str, lo: float, hi: float, unit: str, whole: bool) -> None:
    vary = parse(text, scenario())

    assert (vary.lo, vary.hi, vary.unit, vary.whole) == (lo, hi, unit, whole)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate_hz", "is not NAME=LO..HI"),
        ("rate_hz=1000", "is not NAME=LO..HI"),
        ("rate_hz=1..", "is not NAME=LO..HI"),
        ("rate=1..2", "did you mean 'rate_hz'?"),
        ("conections=1..2", "did you mean 'connections'?"),
        ("phases.steedy.rate_hz=1..2", "did you mean 'phases.steady.rate_hz'?"),
        ("population.waves=1..2", "did you mean"),
        ("rate_hz=2..1", "LO must be greater than 0 and less than HI"),
        ("rate_hz=5..5", "LO must be greater than 0 and less than HI"),
        ("rate_hz=0..5", "LO must be greater than 0 and less than HI"),
        ("rate_hz=-5..5", "LO must be greater than 0 and less than HI"),
        ("rate_hz=1..5MB", "a rate takes one of"),
        ("payload_bytes=1/s..5", "a size takes one of"),
        ("connections=1.5..20", "whole numbers"),
        ("channels=1..11", "--vary channels=11: population.channels is 11, but only 10 subscriptions"),
    ],
)
def test_parse_of_what_cannot_be_varied_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text, scenario())

    assert said in str(refused.value)


def test_parse_of_a_rate_where_there_are_only_floods_is_a_usage_error() -> None:
    flood = scenario(Phase(arrival=Flood(), messages=9))

    with pytest.raises(UsageError, match="not a number of 'tried' that means load"):
        parse("rate_hz=1..2", flood)


def test_id_of_a_trial_tells_values_and_repetitions_apart() -> None:
    base = scenario()
    vary = parse("rate_hz=1k..1M", base)

    ids = {vary.id(base, value, time) for value in (2000.0, 2000.5, 1e6) for time in (1, 2, 3)}

    assert len(ids) == 9
    assert vary.id(base, 2000.0, 1) == "tried@rate_hz=2000"
    assert vary.id(base, 1e6, 2) == "tried@rate_hz=1000000#2"


def test_timed_turns_a_number_of_messages_into_the_time_they_take() -> None:
    base = scenario(Phase(arrival=Constant(rate_hz=100), messages=250))

    assert timed(base).phases[0] == Phase(arrival=Constant(rate_hz=100), duration_s=2.5)


def test_timed_without_anything_to_change_changes_nothing() -> None:
    base = scenario(Phase(name="a", duration_s=4), Phase(name="b", arrival=Flood(), messages=9))

    assert timed(base) == base


@given(duration_s=st.floats(0.5, 1000))
def test_timed_to_a_length_stretches_all_phases_and_their_shapes_in_proportion(duration_s: float) -> None:
    base = scenario(Phase(name="a", arrival=Spike(rate_hz=10, peak_hz=90, at_s=2, for_s=1), duration_s=4), Phase(name="b", duration_s=12))

    changed = timed(base, duration_s)

    first, second = changed.phases
    assert isinstance(first.arrival, Spike)
    assert [first.duration_s, second.duration_s] == pytest.approx([duration_s / 4, duration_s * 3 / 4])
    assert [first.arrival.at_s, first.arrival.for_s] == pytest.approx([duration_s / 8, duration_s / 16])


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (scenario(Phase(arrival=Flood(), messages=9)), "a flood of 'tried' ends after its messages"),
        (scenario(faults=(Fault(kind="disconnect", at_s=1),)), "the faults of 'tried' strike at times of their own"),
    ],
)
def test_timed_of_what_has_times_of_its_own_is_a_usage_error(base: Scenario, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        timed(base, 5)


@pytest.mark.parametrize(
    ("what", "value", "channels", "publishers"),
    [
        ("connections=1..50", 1, 2, 2),
        ("connections=1..50", 50, 100, 4),
        ("subscriptions_per_connection=1..9", 9, 45, 4),
        ("publishers=1..8", 8, 10, 8),
    ],
)
def test_varied_where_each_subscription_has_its_own_channel_it_keeps_one(what: str, value: float, channels: int, publishers: int) -> None:
    population = Population(connections=5, subscriptions_per_connection=2, channels=10, publishers=4)
    base = msgspec.structs.replace(scenario(), population=population)

    changed = varied(base, parse(what, base, own_channels=True), value).population

    assert (changed.subscriptions, changed.channels, changed.publishers) == (channels, channels, publishers)


def test_varied_where_channels_are_shared_they_stay() -> None:
    base = msgspec.structs.replace(scenario(), population=Population(connections=5, channels=5))

    assert varied(base, parse("connections=5..50", base), 50).population.channels == 5
