"""The rates of this moment: what is asked for is what the schedule does, and what is done does not depend on when reports come."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from floodmark.ledger.histogram import Histogram
from floodmark.load.arrivals import schedule
from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave
from floodmark.model.scenario import Phase
from floodmark.runner.pace import Pace, Rates, rate_at
from floodmark.runner.wire import PROGRESS_S, Progress

EMPTY = Histogram().to_wire()
ARRIVALS: list[Arrival] = [
    Constant(rate_hz=1000.0),
    Ramp(from_hz=100.0, to_hz=2000.0),
    Step(from_hz=500.0, step_hz=250.0, every_s=2.0),
    Spike(rate_hz=500.0, peak_hz=5000.0, at_s=3.0, for_s=2.0),
    Wave(rate_hz=1000.0, amplitude_hz=800.0, period_s=4.0),
    Burst(count=100, every_s=0.1),
    Poisson(rate_hz=5000.0),
]


def progress(at_s: float, *, published: int, received: int = 0) -> Progress:
    return Progress(
        at_ns=round(at_s * 1e9),
        connections=1,
        seen=0,
        published=published,
        acknowledged=0,
        pending=0,
        received=received,
        disconnects=0,
        last_received_ns=0,
        response=EMPTY,
        service=EMPTY,
        lag=EMPTY,
    )


@pytest.mark.parametrize("arrival", ARRIVALS, ids=lambda arrival: type(arrival).__name__.lower())
def test_rate_at_summed_up_is_what_the_schedule_intends(arrival: Arrival) -> None:
    phase = Phase(arrival=arrival, duration_s=8.0)
    intended = schedule(arrival, duration_s=8.0, seed=1)
    step_s = 0.001

    for until_s in (1.0, 2.5, 4.0, 7.0):
        asked = sum(rate_at(phase, (number + 0.5) * step_s) or 0.0 for number in range(round(until_s / step_s))) * step_s

        assert asked == pytest.approx(intended.due(int(until_s * 1e9)), rel=0.05, abs=100)


@pytest.mark.parametrize("arrival", ARRIVALS, ids=lambda arrival: type(arrival).__name__.lower())
def test_rate_at_outside_of_the_phase_is_nothing(arrival: Arrival) -> None:
    phase = Phase(arrival=arrival, duration_s=8.0)

    assert rate_at(phase, -0.1) == rate_at(phase, 8.0) == 0.0


def test_rate_at_flood_asks_for_no_rate() -> None:
    assert rate_at(Phase(arrival=Flood(), messages=10), 1.0) is None


def test_pace_first_report_has_no_rate() -> None:
    assert Pace().add(0, progress(1.0, published=100)) == (0.0, 0.0)


@given(late_s=some.lists(some.floats(0, 0.2), min_size=12, max_size=12), agents=some.integers(1, 3))
def test_pace_late_reports_do_not_change_a_steady_rate(late_s: list[float], agents: int) -> None:
    pace = Pace()
    rates = Rates(0.0, 0.0)

    for number, late in enumerate(late_s):
        at_s = number * PROGRESS_S + late
        for agent in range(agents):
            rates = pace.add(agent, progress(at_s, published=round(at_s * 100_000), received=round(at_s * 400_000)))

    assert list(rates) == pytest.approx([100_000 * agents, 400_000 * agents], rel=0.001)


def test_pace_load_that_stops_is_at_nothing_a_second_later() -> None:
    pace = Pace()

    rates = [pace.add(0, progress(number * PROGRESS_S, published=min(number, 8) * 100)).published_hz for number in range(14)]

    assert rates[8] == pytest.approx(400.0)
    assert rates[-1] == 0.0
    assert not math.isnan(sum(rates))
