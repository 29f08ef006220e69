"""Stress tests in pytest, to copy: a system that keeps its promise under load, and one that does not and is caught.

    pytest examples/test_hub.py

The fixture `floodmark` comes with floodmark. The target here is its own hub; in its place put yours: a URL, or a command line that is
started, watched and ended. `pytest -m 'not floodmark'` leaves stress tests out.
"""

from __future__ import annotations

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.pytest_fixture import Floodmark

HUB = Target(system="hub", args=("--no-rate-limits",))
LYING_HUB = Target(system="hub", args=("--no-rate-limits", "--lie", "drop=1/100"))

ROOMS = Scenario(
    id="hub.rooms",
    title="Twenty subscribers in four rooms",
    target=HUB,
    population=Population(connections=20, channels=4),
    phases=(Phase(arrival=Constant(rate_hz=400.0), messages=200),),
    criteria=(parse("lost == 0"), parse("latency_p99 < 5s")),
    lag_limit_s=5.0,  # a build machine is shared: room for time, and none for what is lost
    drain_limit_s=2.0,
)


def test_rooms_under_load_everybody_gets_everything(floodmark: Floodmark) -> None:
    floodmark.run(ROOMS)


def test_rooms_of_a_hub_that_drops_one_in_a_hundred_are_caught(floodmark: Floodmark) -> None:
    result = floodmark.run(msgspec.structs.replace(ROOMS, target=LYING_HUB), expect="FAIL")

    (rooms,) = result.scenarios
    assert rooms.delivery.attempted == 1_000  # 200 messages, each to the five subscribers of its room
    assert rooms.delivery.lost == 10
